"""Compare the Kotlin of android_demo with Python on whole pictures, as Markdown tables.

    python -m benchmarks.android [--images DIR [DIR ...]] [--precision fp32 int8]

Both sides run the same graphs on ONNX Runtime; Maven runs the Kotlin on a JVM. Lines are equal if their texts are.
"""

import argparse
import json
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from converters.bundle.pictures import find_pictures_folder
from converters.export import export_bundle
from converters.plan import ExportOptions
from edge_ocr.config import load_config
from edge_ocr.core.lite_ocr import LiteOCR
from edge_ocr.core.pictures import list_pictures, read_picture

POM = Path(__file__).parents[1] / "tests" / "android" / "pom.xml"
TEST = "PicturesTest"


def write_cases(bundle: Path, pictures: Iterable[Path], folder: Path) -> None:
    """Read pictures with a bundle that has ONNX graphs; write their pixels and lines for PicturesTest.kt."""
    ocr = LiteOCR(bundle, engine="onnxruntime")
    cases = []
    for index, path in enumerate(pictures):
        image = read_picture(path)
        (folder / f"{index}.bgr").write_bytes(image.tobytes())
        lines = [{"text": line.text, "polygon": line.polygon.tolist()} for line in ocr.read(image).lines]
        height, width = image.shape[:2]
        case = {"name": path.name, "pixels": f"{index}.bgr", "width": width, "height": height, "lines": lines}
        cases.append(case)
    (folder / "cases.json").write_text(json.dumps({"bundle": str(bundle), "pictures": cases}), encoding="utf-8")


def run_kotlin(folder: Path, goal: str = "verify") -> subprocess.CompletedProcess[str]:
    """Let the Kotlin read the pictures of `write_cases`; return the rows of the table from Maven's output.

    The goal `surefire:test@default-test` uses the classes that were compiled before.
    """
    command = ["mvn", "-q", "-B", "-f", str(POM), goal, f"-Dtest={TEST}", f"-Dpictures={folder}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=1800)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, nargs="+", default=[find_pictures_folder()])
    parser.add_argument("--precision", nargs="+", default=["fp32", "int8"])
    options = parser.parse_args()
    config = load_config("OCR", {"Pipeline.use_text_line_orientation": True})
    pictures = [path for folder in options.images for path in list_pictures(folder)]
    failed = False
    for precision in options.precision:
        with tempfile.TemporaryDirectory() as scratch:
            export = ExportOptions(precision=precision, with_onnx=True, verify=False)
            bundle = export_bundle("arm", Path(scratch) / "bundle", config, export).out_dir
            write_cases(bundle, pictures, Path(scratch))
            done = run_kotlin(Path(scratch))
        failed |= done.returncode != 0
        # Maven may print colour codes before the first row.
        told = [line.rsplit("\x1b[0m", 1)[-1] for line in done.stdout.splitlines()]
        rows = [line for line in told if line.startswith("| ")]
        print(f"\n{precision}:\n\n| picture | lines, Python | lines, Kotlin | equal | corners, px |")
        print("\n".join(["|---|---:|---:|---:|---:|", *rows, "", *(line for line in told if ": read " in line)]))
        if not rows:
            print(done.stdout[-4000:])
    if failed:
        raise SystemExit("the Kotlin reads other texts or failed to run")


if __name__ == "__main__":
    main()
