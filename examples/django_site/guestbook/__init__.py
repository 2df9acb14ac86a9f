"""A guest book with Django, served by WSGI, or by ASGI with a WebSocket of Channels that shows new entries.

Try it with:

    pip install 'django~=5.2' channels
    cd django_site
    python manage.py migrate
    python -m socketify guestbook.wsgi:application --threads 4     # or
    python -m socketify guestbook.asgi:application
    open http://localhost:8000
"""
