"""``python -m e2b_upload``."""

from e2b_upload.cli.app import main

if __name__ == "__main__":
    main()
