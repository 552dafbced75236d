"""Fixtures that start app and host together; loaded by pytest when the package is installed."""
