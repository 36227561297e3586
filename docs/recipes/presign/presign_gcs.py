"""Print a URL that accepts one object for an hour: python presign_gcs.py BUCKET KEY."""

import sys
from datetime import timedelta

from google.cloud import storage

bucket, key = sys.argv[1:]
blob = storage.Client().bucket(bucket).blob(key)
print(blob.generate_signed_url(version="v4", method="PUT", expiration=timedelta(hours=1)))
