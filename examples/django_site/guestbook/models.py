"""What the guest book keeps."""

from django.db import models


class Entry(models.Model):
    """What a guest has written."""

    name = models.CharField(max_length=100)
    text = models.TextField()
    written = models.DateTimeField(auto_now_add=True)
