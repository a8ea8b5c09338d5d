"""A trained model as a service: HTTP, and a page for the browser.

    service.py    the application: what is asked where
    guard.py      what every request passes: host, token, size, time; errors that say nothing of the server
    uploads.py    the files of a request, in a folder of their own while it is answered
    batching.py   requests wait in one bounded queue and are computed together
    work.py       what is computed: predictions, heat maps, the image as the model reads it
    schemas.py    what is answered, for OpenAPI

One thread computes, so a model is in memory once and each batch has all processors. Nothing of a request is logged or
kept.
"""
