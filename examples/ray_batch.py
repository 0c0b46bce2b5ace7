"""Read many pictures on a Ray cluster or on all cores of one machine:

    pip install 'edge-ocr[ray]'
    python ray_batch.py FOLDER OUTPUT [--readers N]

Ray Data distributes the pictures, keeps the pipelines loaded, restarts readers that died, and writes JSON lines to the
folder OUTPUT. FOLDER and OUTPUT may be on S3, GCS or HDFS, or anywhere else that Ray reads.
"""

import argparse
import json
import os
from typing import Any

import ray

from edge_ocr import create_pipeline
from edge_ocr.errors import EdgeOcrError


class Reader:
    """One loaded pipeline; Ray makes as many as fit."""

    def __init__(self) -> None:
        # One thread each: several readers are faster than one on all cores.
        self.pipeline = create_pipeline(threads=1)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        rows = [self.read(path, content) for path, content in zip(batch["path"], batch["bytes"], strict=True)]
        return {name: [row[name] for row in rows] for name in ("path", "text", "pages", "error")}

    def read(self, path: str, content: bytes) -> dict[str, Any]:
        pages, message = [], ""
        try:
            for result in self.pipeline.predict(content):
                pages.append(json.loads(result.to_json()))
        except EdgeOcrError as error:
            # A bad picture must not stop the others. The good pages of a PDF came before the error.
            message = error.message
        text = "\n".join(line for page in pages for line in page["rec_text"])
        # As text: Ray needs the same columns in every row, whatever the number of lines.
        return {"path": path, "text": text, "pages": json.dumps(pages, ensure_ascii=False), "error": message}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("output")
    parser.add_argument("--readers", type=int, default=os.cpu_count())
    options = parser.parse_args()
    pictures = ray.data.read_binary_files(options.folder, include_paths=True)
    read = pictures.map_batches(
        Reader, batch_size=4, num_cpus=1, compute=ray.data.ActorPoolStrategy(size=options.readers)
    )
    read.write_json(options.output)


if __name__ == "__main__":
    main()
