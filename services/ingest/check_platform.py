"""Whether bundled compiled files fit the Python and the machine that the lambda will run on."""

import platform
import re
import struct
import sys

from functools import lru_cache
from packaging import tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

MACHINES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64", "i686": "i386", "i586": "i386", "x86": "i386", "armv7l": "arm", "armv6l": "arm", "ppc64": "ppc64le"}
ELF_MACHINES = {3: "i386", 21: "ppc64le", 22: "s390x", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64"}
MACH_MACHINES = {7: "i386", 0x01000007: "x86_64", 12: "arm", 0x0100000C: "aarch64"}
PE_MACHINES = {0x14C: "i386", 0x8664: "x86_64", 0xAA64: "aarch64"}
PLATFORM_NAMES = {"linux": "Linux", "darwin": "macOS", "win32": "Windows"}
MACH_THIN = {b"\xce\xfa\xed\xfe": "<", b"\xcf\xfa\xed\xfe": "<", b"\xfe\xed\xfa\xce": ">", b"\xfe\xed\xfa\xcf": ">"}
NEWEST_GLIBC_MINOR = 45
NEWEST_MACOS = (26, 0)


def target_facts(target):
    """{python: "3.11", platform: "linux", machine: "x86_64", tags: {...}}; None means the interpreter that runs this."""
    if target is None:
        return own_facts()
    return facts_of(target["python"], target["platform"], target["machine"])


@lru_cache
def own_facts():
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {"python": python, "platform": sys.platform, "machine": normal_machine(platform.machine()), "tags": frozenset(tags.sys_tags())}


@lru_cache
def facts_of(python, system, machine):
    major, minor = (int(part) for part in python.split(".")[:2])
    platforms = platform_tags(system, normal_machine(machine))
    known = [*tags.cpython_tags((major, minor), platforms=platforms), *tags.compatible_tags((major, minor), f"cp{major}{minor}", platforms)]
    return {"python": f"{major}.{minor}", "platform": system, "machine": normal_machine(machine), "tags": frozenset(known)}


def platform_tags(system, machine):
    if system == "darwin":
        return list(tags.mac_platforms(NEWEST_MACOS, "arm64" if machine == "aarch64" else machine))
    if system == "win32":
        return [{"x86_64": "win_amd64", "aarch64": "win_arm64", "i386": "win32"}.get(machine, "win_" + machine)]
    linux = {"i386": "i686", "arm": "armv7l"}.get(machine, machine)
    modern = [f"manylinux_2_{minor}_{linux}" for minor in range(NEWEST_GLIBC_MINOR, 4, -1)]
    return [*modern, *(f"{old}_{linux}" for old in ("manylinux2014", "manylinux2010", "manylinux1", "linux"))]


def normal_machine(machine):
    return MACHINES.get(machine.lower(), machine.lower())


def finding(file, says, facts):
    where = f"Python {facts['python']} on {PLATFORM_NAMES.get(facts['platform'], facts['platform'])} {facts['machine']}"
    return {
        "code": "WrongPlatform", "file": file,
        "message": f"`{file}` is {says}; the lambda runs on {where}.",
        "fix": f"Name the package in requirements.txt instead of bundling it, or bundle it for {where}.",
    }


def wheel_findings(name, facts):
    try:
        wheel_tags = parse_wheel_filename(name.rsplit("/", 1)[-1])[3]
    except InvalidWheelFilename:
        return [{"code": "BadWheelName", "file": name, "message": f"`{name}` is not named as a wheel must be.", "fix": "Give it back the name that it was built or downloaded with."}]
    if wheel_tags & facts["tags"]:
        return []
    return [finding(name, f"a wheel for {', '.join(sorted(map(str, wheel_tags)))[:200]}", facts)]


def binary_findings(name, head, facts):
    wrong = foreign_python(name, facts["python"])
    if wrong:
        return [finding(name, f"compiled for {wrong}", facts)]
    builds = built_for(head)
    if not builds or any(fits(build, facts) for build in builds):
        return []
    return [finding(name, "compiled for " + " and ".join(f"{PLATFORM_NAMES[system]} {machine}" for system, machine in builds), facts)]


def foreign_python(name, python):
    base = name.rsplit("/", 1)[-1]
    if found := re.search(r"\.pypy(\d)(\d+)-", base):
        return f"PyPy {found[1]}.{found[2]}"
    found = re.search(r"\.(?:cpython-|cp)(\d)(\d+)[a-z]*[-.]", base)
    if not found or f"{found[1]}.{found[2]}" == python:
        return None
    return f"Python {found[1]}.{found[2]}"


def fits(build, facts):
    system, machine = build
    return system == facts["platform"] and machine in (facts["machine"], "any machine")


def built_for(head):
    """[(platform, machine)] that the first bytes of a compiled file name; empty when they name none."""
    try:
        if head[:4] == b"\x7fELF":
            return [elf_build(head)]
        if head[:4] in MACH_THIN:
            return [mach_build(struct.unpack_from(MACH_THIN[head[:4]] + "I", head, 4)[0])]
        if head[:4] == b"\xca\xfe\xba\xbe":
            count = min(struct.unpack_from(">I", head, 4)[0], 16)
            return [mach_build(struct.unpack_from(">I", head, 8 + 20 * index)[0]) for index in range(count)]
        return [pe_build(head)] if head[:2] == b"MZ" else []
    except struct.error:
        return []


def elf_build(head):
    machine = struct.unpack_from(">H" if head[5:6] == b"\x02" else "<H", head, 18)[0]
    return "linux", ELF_MACHINES.get(machine, f"machine {machine}")


def mach_build(machine):
    return "darwin", MACH_MACHINES.get(machine, f"machine {machine}")


def pe_build(head):
    start = struct.unpack_from("<I", head, 0x3C)[0]
    if head[start:start + 4] != b"PE\0\0":
        return "win32", "any machine"  # The header lies beyond the bytes that were sent.
    machine = struct.unpack_from("<H", head, start + 4)[0]
    return "win32", PE_MACHINES.get(machine, f"machine {machine}")
