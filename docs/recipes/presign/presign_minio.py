"""Print a URL that accepts one object for an hour: python presign_minio.py BUCKET KEY."""

import os
import sys
from datetime import timedelta
from urllib.parse import urlsplit

from minio import Minio

bucket, key = sys.argv[1:]
server = urlsplit(os.environ["MINIO_URL"])
client = Minio(
    server.netloc,
    access_key=os.environ["MINIO_ACCESS_KEY"],
    secret_key=os.environ["MINIO_SECRET_KEY"],
    secure=server.scheme == "https",
    region=os.environ.get("MINIO_REGION", "us-east-1"),  # otherwise the client asks the server
)
print(client.presigned_put_object(bucket, key, expires=timedelta(hours=1)))
