"""What /proc/cpuinfo says on processors of boards."""

from __future__ import annotations

V8 = "fp asimd evtstrm crc32 cpuid"
V8_CRYPTO = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
V82 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop"
DOT = f"{V82} asimddp"
V84 = f"{DOT} sha512 sve asimdfhm dit uscat ilrcpc flagm ssbs paca pacg dcpodp svei8mm svebf16 i8mm bf16 dgh rng"
V7 = "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm crc32"


def write_cores(
    *cores: tuple[int, str], features: str, implementer: str = "0x41", tail: str = "", head: str = ""
) -> str:
    """Return the text for `cores`, each a number and a part; `head` goes into each block, `tail` to the end."""
    parts = [part for count, part in cores for _ in range(count)]
    blocks = [
        f"processor\t: {index}\n{head}BogoMIPS\t: 108.00\nFeatures\t: {features}\nCPU implementer\t: {implementer}\n"
        f"CPU architecture: 8\nCPU variant\t: 0x2\nCPU part\t: {part}\nCPU revision\t: 0\n\n"
        for index, part in enumerate(parts)
    ]
    return "".join(blocks) + tail


PI_3_32_BIT = write_cores(
    (4, "0xd03"),
    features=V7,
    head="model name\t: ARMv7 Processor rev 4 (v7l)\n",
    tail="Hardware\t: BCM2835\nRevision\t: a02082\nModel\t\t: Raspberry Pi 3 Model B Rev 1.2\n",
)
PI_4 = write_cores((4, "0xd08"), features=V8, tail="Hardware\t: BCM2835\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n")
PI_5 = write_cores((4, "0xd0b"), features=DOT, tail="Revision\t: d04170\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n")
RK3588 = write_cores((4, "0xd05"), (4, "0xd0b"), features=DOT, tail="Serial\t\t: 0123456789abcdef\n")
RK3568 = write_cores((4, "0xd05"), features=DOT)
A311D = write_cores((2, "0xd03"), (4, "0xd09"), features=V8_CRYPTO)
SC9863A = write_cores((8, "0xd05"), features=V82)
CORTEX_A75 = write_cores((2, "0xd0a"), (4, "0xd05"), features=DOT)
CORTEX_A510 = write_cores((4, "0xd46"), features=DOT)
GENIO_1200 = write_cores((4, "0xd05"), (4, "0xd41"), features=DOT)
SNAPDRAGON_855 = write_cores(
    (4, "0x805"),
    (4, "0x804"),
    features=DOT,
    implementer="0x51",
    tail="Hardware\t: Qualcomm Technologies, Inc SM8150\n",
)
JETSON_NANO = write_cores((4, "0xd07"), features=V8_CRYPTO, head="model name\t: ARMv8 Processor rev 1 (v8l)\n")
JETSON_XAVIER = write_cores((6, "0x004"), features=V82, implementer="0x4e")
JETSON_ORIN = write_cores((6, "0xd42"), features=DOT)
GRAVITON_2 = write_cores((2, "0xd0c"), features=DOT)
GRAVITON_3 = write_cores((2, "0xd40"), features=V84)

OLD_SYSTEM = (
    "Processor\t: AArch64 Processor rev 4 (aarch64)\nprocessor\t: 0\nprocessor\t: 1\nFeatures\t: fp asimd evtstrm\n"
    "CPU implementer\t: 0x41\nCPU architecture: AArch64\n"
    "CPU part\t: 0xd03\nCPU revision\t: 4\n\nHardware\t: sun50iw1p1\n"
)
X86 = (
    "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC 7B13\nflags\t\t: fpu avx2 asimddp\n\n"
    "processor\t: 1\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC 7B13\nflags\t\t: fpu avx2 asimddp\n\n"
)

ALL = {name: text for name, text in globals().items() if isinstance(text, str) and "processor\t:" in text}
"""Every text, by name."""
