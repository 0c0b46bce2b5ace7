"""Simulates adb and a phone: answers from the scenario that FAKE_ADB names, and records its commands."""

import json
import os
import re
import sys
import time
from pathlib import Path

place = Path(os.environ["FAKE_ADB"])
scenario = json.loads(place.read_text(encoding="utf-8"))
log = place.with_suffix(".log")
arguments = sys.argv[1:]
with place.with_suffix(".calls").open("a", encoding="utf-8") as calls:
    calls.write(json.dumps(arguments) + "\n")


def say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def shell(script: str) -> None:
    if script.startswith("getprop"):
        say(scenario["properties"])
    elif script.startswith("date"):
        log.unlink(missing_ok=True)
        say("11-22 18:40:00.000\n")
    elif script.startswith("pidof"):
        say(scenario["pidof"])
    else:
        found = re.fullmatch(
            r"am start -S -n io\.github\.edgeocr\.demo/\.SelfTestActivity -a io\.github\.edgeocr\.demo\.SELF_TEST "
            r"--es token ([0-9a-f]+) 2>&1",
            script,
        )
        if not found:
            sys.exit(f"/system/bin/sh: {script}: not found")
        say(scenario["start"])
        lines = "".join(f"{line}\n" for line in scenario["log"]).replace("TOKEN", found[1])
        partial = log.with_suffix(".partial")
        partial.write_bytes(lines.encode(errors="surrogateescape"))
        partial.rename(log)


def follow() -> None:
    """Print the log as it grows, until it is killed."""
    place.with_suffix(".pid").write_text(str(os.getpid()))
    say("--------- beginning of main\nan older line of another app\n")
    while not log.exists():
        time.sleep(0.01)
    sys.stdout.flush()
    sys.stdout.buffer.write(log.read_bytes())
    sys.stdout.flush()
    if not scenario["log_ends"]:
        time.sleep(60)


if arguments == ["devices"]:
    say("* daemon not running; starting now at tcp:5037\n* daemon started successfully\n")
    say("List of devices attached\n" + "".join(f"{line}\n" for line in scenario["devices"]) + "\n")
    sys.exit()
if arguments[:1] != ["-s"] or f"{arguments[1]}\tdevice" not in scenario["devices"]:
    sys.exit(f"error: device '{arguments[1]}' not found")
command = arguments[2:]
if command[:1] == ["shell"] and len(command) == 2:
    shell(command[1])
elif command[:3] == ["install", "-r", "-t"] and Path(command[3]).read_bytes() == b"apk":
    say(scenario["install"])
    sys.exit(0 if "Success" in scenario["install"] else 1)
elif " ".join(command) == "logcat -v raw -T 11-22 18:40:00.000 -s EdgeOcr:I AndroidRuntime:E DEBUG:F":
    follow()
else:
    sys.exit(f"adb: unknown command {' '.join(command)}")
