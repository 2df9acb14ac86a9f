"""Processes: the command line, those that it starts, and the sockets and signals that they share.

``command_line`` starts what ``flags`` and the ``invocation`` made of them ask for. ``worker`` serves the application that
``importer`` loads. With several workers, ``supervisor`` starts and replaces them, ``link`` ties each to it, ``ports`` has
the sockets that they share, and ``reloader`` watches files. ``activation`` takes sockets from systemd. ``console`` is what
users read.
"""
