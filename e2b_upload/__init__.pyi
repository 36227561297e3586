from e2b_upload.archive.pack import Archive as Archive
from e2b_upload.context.collect import Entry as Entry
from e2b_upload.context.explain import Decision as Decision
from e2b_upload.e2b.build import build_template as build_template
from e2b_upload.e2b.copies import Copy as Copy
from e2b_upload.e2b.listing import collect_copies as collect_copies
from e2b_upload.e2b.listing import explain_copies as explain_copies
from e2b_upload.e2b.listing import files_hash as files_hash
from e2b_upload.e2b.receipts import CopyReceipt as CopyReceipt
from e2b_upload.e2b.receipts import TemplateReceipt as TemplateReceipt
from e2b_upload.errors import Interrupted as Interrupted
from e2b_upload.errors import RefusedError as RefusedError
from e2b_upload.errors import SourceError as SourceError
from e2b_upload.errors import SpoolError as SpoolError
from e2b_upload.errors import UnavailableError as UnavailableError
from e2b_upload.errors import UploadError as UploadError
from e2b_upload.errors import UsageError as UsageError
from e2b_upload.pipeline import build as build
from e2b_upload.pipeline import build_async as build_async
from e2b_upload.pipeline import collect as collect
from e2b_upload.pipeline import explain as explain
from e2b_upload.pipeline import pack as pack
from e2b_upload.pipeline import put as put
from e2b_upload.receipts import Receipt as Receipt

__version__: str
