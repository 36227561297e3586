"""Print a URL that accepts one blob for an hour: python presign_azure.py CONTAINER BLOB."""

import os
import sys
from datetime import UTC, datetime, timedelta

from azure.storage.blob import BlobClient, BlobSasPermissions, generate_blob_sas

container, name = sys.argv[1:]
account = os.environ["AZURE_STORAGE_CONNECTION_STRING"]
with BlobClient.from_connection_string(account, container, name) as blob:
    token = generate_blob_sas(
        blob.account_name,
        container,
        name,
        account_key=blob.credential.account_key,
        permission=BlobSasPermissions(create=True, write=True),
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )
    print(f"{blob.url}?{token}")
