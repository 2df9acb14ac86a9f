-- Posts the file that BENCH_BODY names. The request is built once, so it costs the generator no more than a GET.
local file = assert(io.open(os.getenv("BENCH_BODY"), "rb"))
wrk.method = "POST"
wrk.body = file:read("*a")
wrk.headers["Content-Type"] = "application/json"
file:close()

dofile(os.getenv("BENCH_DONE"))
