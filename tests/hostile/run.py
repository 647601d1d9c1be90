"""Hostile calls of the Python API: `python tests/hostile/run.py --calls 100000 --seed 0`.

Every call is generated from the seed and its number alone. They run in a child process with limits
on memory and on the time of a call; a child that dies names the call it was at, and the next child
goes on behind it. `--only 1234` makes one call, in this process. Exit code 1 if there are findings.
"""

import argparse
import collections
import faulthandler
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

SECONDS = 30  # for one call
MEMORY = 6 << 30  # of address space: more than any valid call needs


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, metavar="NUMBER", help="this call alone")
    parser.add_argument("--function", help="calls of this function alone")
    parser.add_argument("--no-memory-limit", action="store_true", help="for the sanitizers")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", type=int, nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def specs(function):
    from hostile import files, linear, softmax, sparse

    every = [*softmax.SPECS * 2, *sparse.SPECS * 3, *linear.SPECS * 2, *files.SPECS, softmax.choose]
    chosen = [spec for spec in every if function in (None, spec.__name__)]
    if not chosen:
        raise SystemExit(f"no function {function}")
    return chosen


def describe(call):
    def short(value):
        try:
            text = f"{value!r}"
        except Exception as error:
            text = f"<{type(value).__name__}, repr raises {type(error).__name__}>"
        return " ".join(text.split())[:160]

    extra = {
        name: "/".join(
            f"{short(getattr(value, part, '-'))}"
            for part in ("indptr", "indices", "shape", "format")
        )
        for name, value in call.args.items()
        if call.kinds[name] == "csr"
    }
    shown = (f"{name}={extra.get(name) or short(value)}" for name, value in call.args.items())
    return f"{call.name}({', '.join(shown)}) spoilt: {call.spoilt}"


def child(arguments):
    """Make the calls of a range; one line of JSON a call goes to stdout, its number first."""
    from hostile import oracle
    from hostile.calls import generate

    faulthandler.enable()
    out = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a call prints is not the report
    if not arguments.no_memory_limit:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    chosen = specs(arguments.function)
    for index in range(*arguments.child):
        out.write(f"{index}\n")
        out.flush()
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        call = generate(chosen, arguments.seed, index)
        ok, wrong = oracle.run(call)
        what = describe(call) if wrong else None
        signal.setitimer(signal.ITIMER_REAL, 0)
        out.write(json.dumps([call.name, ok, bool(call.spoilt), wrong, what]) + "\n")


def found(arguments, call, wrong, what):
    """A finding, told on stderr at once."""
    again = f"--only {call} --seed {arguments.seed}"
    again += f" --function {arguments.function}" if arguments.function else ""
    print(f"{again}: {wrong}\n  {what}\n", file=sys.stderr, flush=True)
    return {"call": call, "wrong": wrong, "what": what}


def campaign(arguments):
    """Run all; returns the tally by function [succeeded, refused] and the findings."""
    tally = collections.defaultdict(lambda: [0, 0])
    findings, start = [], 0
    while start < arguments.calls:
        command = [sys.executable, __file__, "--seed", str(arguments.seed)]
        command += ["--function", arguments.function] if arguments.function else []
        command += ["--no-memory-limit"] if arguments.no_memory_limit else []
        command += ["--child", str(start), str(arguments.calls)]
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stdin=subprocess.DEVNULL,
                stderr=errors,
                cwd=folder,
                text=True,
            )
            at = None
            for line in process.stdout:
                if line[0] != "[":
                    at = int(line)
                    continue
                name, ok, _, wrong, what = json.loads(line)
                tally[name][not ok] += 1
                if wrong:
                    findings.append(found(arguments, at, wrong, what))
            code = process.wait()
            if code == 0:
                break
            errors.seek(0)
            if at is None:
                raise SystemExit(f"the child did not begin: {errors.read()}")
            why = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            wrong = f"the process ended: {why}"
            findings.append(found(arguments, at, wrong, errors.read()[-3000:]))
            start = at + 1
    return dict(tally), findings


def main(argv=None):
    arguments = parse(argv)
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    if arguments.child:
        child(arguments)
        return 0
    if arguments.only is not None:
        from hostile import oracle
        from hostile.calls import generate

        call = generate(specs(arguments.function), arguments.seed, arguments.only)
        print(describe(call))
        print(oracle.run(call))
        return 0
    tally, findings = campaign(arguments)
    succeeded = sum(ok for ok, _ in tally.values())
    total = sum(map(sum, tally.values()))
    if arguments.json:
        print(
            json.dumps(
                {"tally": tally, "findings": findings, "calls": total, "succeeded": succeeded}
            )
        )
        return int(bool(findings))
    for name, (ok, refused) in sorted(tally.items()):
        print(f"{name:34}{ok:8} succeeded{refused:8} refused")
    print(f"{total} calls, {succeeded} succeeded, {len(findings)} findings")
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main())
