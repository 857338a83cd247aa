"""What the product is compared with: three of its routes, as the FastAPI and SQLAlchemy tutorials write them.

It is meant to be good plain code and in nothing slower than it has to be: the same server, workers, loop,
HTTP parser, models, database and tokens as the product, and SQLAlchemy's own pool with its default size. What
differs is how a request is answered: functions in threads, a session for each request, ORM objects, pydantic
models, BaseHTTPMiddleware.
"""
