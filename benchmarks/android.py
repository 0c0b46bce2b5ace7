"""Compare the Kotlin of android_demo with Python on whole pictures, as Markdown tables.

    python -m benchmarks.android [--images DIR [DIR ...]] [--pipeline OCR OCR-tiny] [--precision fp32 int8]

Both sides run the same graphs on ONNX Runtime; Maven runs the Kotlin on a JVM. Lines are equal if their texts are.
"""

import argparse
import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from converters.bundle.android.record import locate_bundle
from converters.bundle.pictures import find_pictures_folder
from converters.export import export_bundle
from converters.plan import ExportOptions
from edge_ocr.config import load_config
from edge_ocr.core.bundle import MANIFEST
from edge_ocr.core.lite_ocr import LiteOCR
from edge_ocr.core.pictures import list_pictures, read_picture

POM = Path(__file__).parents[1] / "tests" / "android" / "pom.xml"
TESTS = "PicturesTest,NetworksTest"


def write_cases(projects: Mapping[str, Path], pictures: Sequence[Path], folder: Path) -> None:
    """Read pictures with the bundles of Android projects, by name; write pixels and lines for PicturesTest.kt."""
    sizes = []
    for index, path in enumerate(pictures):
        image = read_picture(path)
        (folder / f"{index}.bgr").write_bytes(image.tobytes())
        sizes.append(image.shape[:2])
    bundles = []
    for name, project in projects.items():
        bundle = locate_bundle(project)
        ocr = LiteOCR(_copy_for_host(bundle, folder / name), engine="onnxruntime")
        cases = []
        for index, (path, (height, width)) in enumerate(zip(pictures, sizes, strict=True)):
            found = ocr.read(read_picture(path)).lines
            lines = [{"text": line.text, "polygon": line.polygon.tolist()} for line in found]
            case = {"name": path.name, "pixels": f"{index}.bgr", "width": width, "height": height, "lines": lines}
            cases.append(case)
        bundles.append({"name": name, "folder": str(bundle), "pictures": cases})
    (folder / "cases.json").write_text(json.dumps({"bundles": bundles}), encoding="utf-8")


def _copy_for_host(bundle: Path, copy: Path) -> Path:
    """Return a copy of an app's bundle that the board runtime, which runs on the host, does not refuse."""
    shutil.copytree(bundle, copy)
    manifest = json.loads((copy / MANIFEST).read_bytes())
    (copy / MANIFEST).write_text(json.dumps({**manifest, "target": "arm"}), encoding="utf-8")
    return copy


def run_kotlin(folder: Path, goal: str = "verify") -> subprocess.CompletedProcess[str]:
    """Let the Kotlin read the pictures of `write_cases`; return the rows of the table from Maven's output.

    The goal `surefire:test@default-test` uses the classes that were compiled before.
    """
    command = ["mvn", "-q", "-B", "-f", str(POM), goal, f"-Dtest={TESTS}", f"-Dpictures={folder}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=1800)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, nargs="+", default=[find_pictures_folder()])
    parser.add_argument("--pipeline", nargs="+", default=["OCR"])
    parser.add_argument("--precision", nargs="+", default=["fp32", "int8"])
    options = parser.parse_args()
    pictures = [path for folder in options.images for path in list_pictures(folder)]
    with tempfile.TemporaryDirectory() as scratch:
        projects = {}
        for pipeline in options.pipeline:
            config = load_config(pipeline, {"Pipeline.use_text_line_orientation": True})
            for precision in options.precision:
                name = f"{pipeline} {precision}"
                export = ExportOptions(precision=precision, verify=False)
                projects[name] = export_bundle("android", Path(scratch, f"{name} project"), config, export).out_dir
        write_cases(projects, pictures, Path(scratch))
        done = run_kotlin(Path(scratch))
    # Maven may print colour codes before the first row.
    told = [line.rsplit("\x1b[0m", 1)[-1] for line in done.stdout.splitlines()]
    rows = [line for line in told if line.startswith("| ")]
    print("| bundle | picture | lines, Python | lines, Kotlin | equal | corners, px |")
    print("\n".join(["|---|---|---:|---:|---:|---:|", *rows, "", *(line for line in told if ": read " in line)]))
    if not rows:
        print(done.stdout[-4000:])
    if done.returncode:
        raise SystemExit("the Kotlin reads other texts or failed to run")


if __name__ == "__main__":
    main()
