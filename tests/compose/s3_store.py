"""`s3_store.py DIRECTORY`: serves S3 with the files of DIRECTORY in the bucket `models`, and prints its port."""

import sys
from pathlib import Path

import boto3
from moto.server import ThreadedMotoServer

BUCKET = "models"


def main() -> None:
    """Serve until killed."""
    directory = Path(sys.argv[1])
    server = ThreadedMotoServer(ip_address="0.0.0.0", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    client.create_bucket(Bucket=BUCKET)
    for file in directory.iterdir():
        client.upload_file(str(file), BUCKET, f"{directory.name}/{file.name}")
    print(port, flush=True)
    server._thread.join()


if __name__ == "__main__":
    main()
