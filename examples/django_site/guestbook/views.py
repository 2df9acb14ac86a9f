"""The page of the guest book, which shows entries and takes new ones."""

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from guestbook.models import Entry


class EntryForm(ModelForm):
    """A new entry."""

    class Meta:
        model = Entry
        fields = ("name", "text")


def book(request: HttpRequest) -> HttpResponse:
    form = EntryForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        entry = form.save()
        # Reaches the sockets of this process, when ASGI serves the site.
        event = {"type": "written", "text": f"{entry.name}: {entry.text}"}
        async_to_sync(get_channel_layer().group_send)("guests", event)
        return redirect("/")
    return render(request, "book.html", {"entries": Entry.objects.order_by("-written")[:100], "form": form})
