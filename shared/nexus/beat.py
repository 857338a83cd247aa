"""What worker and API agree on, so that the API can see in Redis which workers consume.

A worker that consumes asks Redis over one connection of this name, again and again; Redis tells how long ago.
"""

#: The name of the connection, as Redis lists it.
CLIENT_NAME = "nexus-worker"
#: Seconds between two beats of a worker.
INTERVAL = 2.0
#: A worker whose last beat is older does not consume, seconds; services/worker/healthcheck says the same.
MAX_AGE = 6
