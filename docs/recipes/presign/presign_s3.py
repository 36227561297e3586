"""Print a URL that takes one object for an hour: python presign_s3.py BUCKET KEY."""

import sys

import boto3
from botocore.config import Config

bucket, key = sys.argv[1:]
# The bucket in the path: then the host is the region's own, and other stores do the same.
config = Config(signature_version="s3v4", s3={"addressing_style": "path"})
client = boto3.client("s3", config=config)
params = {"Bucket": bucket, "Key": key}
print(client.generate_presigned_url("put_object", params, ExpiresIn=3600))
