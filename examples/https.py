"""HTTPS with a private key that is encrypted. Make one, and a certificate that only you trust:

    mkdir -p misc
    openssl req -x509 -newkey rsa:2048 -days 30 -subj /CN=localhost -addext subjectAltName=DNS:localhost \\
        -passout pass:1234 -keyout misc/key.pem -out misc/cert.pem

Try it with:

    curl --cacert misc/cert.pem https://localhost:54321
"""

from socketify import App, AppOptions, Request, Response


def home(res: Response, req: Request) -> None:
    res.end(f"Hello over {req.get_tls_version()}\n")


app = App(
    AppOptions(
        key_file_name="./misc/key.pem",
        cert_file_name="./misc/cert.pem",
        passphrase="1234",
    )
)
app.get("/", home)
app.listen(54321, lambda config: print(f"Listening on https://localhost:{config.port}"))
app.run()
