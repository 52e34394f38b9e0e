"""The application: a request becomes a picture, on the command line and on a page."""
