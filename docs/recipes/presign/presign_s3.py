"""Print a URL that accepts one object for an hour: python presign_s3.py BUCKET KEY."""

import sys

import boto3
from botocore.config import Config

bucket, key = sys.argv[1:]
# With the bucket in the path, the script works for other stores and uses the region's host.
config = Config(signature_version="s3v4", s3={"addressing_style": "path"})
client = boto3.client("s3", config=config)
params = {"Bucket": bucket, "Key": key}
print(client.generate_presigned_url("put_object", params, ExpiresIn=3600))
