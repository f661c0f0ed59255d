#!/usr/bin/env python3
"""Compares packaging/aws/facts.toml with what AWS publishes for machines, and with the files that rely on each fact.

    facts.py [--botocore DIR] [--cfn DIR]      the folders of the Python packages botocore and cfnlint
    facts.py --from DIR --to DIR               what changed between two of botocore, as far as it is in the table

Exit code: 0 all is as the table says, 1 something changed (each with the files it concerns), 2 wrong usage or a table
that can't be read, 3 a source can't be read.
"""
import argparse, glob, gzip, json, os, re, sys, tomllib

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


class CannotTell(Exception):
    pass


class Botocore:
    """The service models in a folder of botocore."""

    def __init__(self, folder):
        self.folder, self.models = folder, {}

    def model(self, service):
        if service not in self.models:
            found = sorted(glob.glob(os.path.join(self.folder, "data", service, "*", "service-2.json*")))
            if not found:
                raise CannotTell(f"{self.folder} has no model of {service}")
            opener = gzip.open if found[-1].endswith(".gz") else open
            with opener(found[-1], "rt", encoding="utf-8") as file:
                self.models[service] = json.load(file)
        return self.models[service]

    def value(self, source):
        """`SERVICE/path/into/the/model`: a list is itself, an object its keys; with `#REGEX` what the regex captures in
        the documentation there, as a list."""
        source, _, pattern = source.partition("#")
        service, *path = source.split("/")
        at = self.model(service)
        for step in path:
            if not isinstance(at, dict) or step not in at:
                return None
            at = at[step]
        if pattern:
            text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", at if isinstance(at, str) else at.get("documentation", "")))
            text = text.replace("–", "-")
            found = re.search(pattern, text)
            return list(found.groups()) if found else None
        return list(at) if isinstance(at, dict) else at


class CfnLint:
    """The resource schemas and the actions of IAM in a folder of cfnlint."""

    def __init__(self, folder):
        self.folder = folder
        self.data = os.path.join(folder, "data")

    def properties(self, name):
        with open(os.path.join(self.data, "schemas", "providers", "us-east-1.json"), encoding="utf-8") as file:
            key = json.load(file).get(name)
        if key is None:
            return None
        with open(os.path.join(self.data, "schemas", "resources", f"{key}.json"), encoding="utf-8") as file:
            schema = json.load(file)
        names = set()

        def collect(at):
            if isinstance(at, dict):
                if isinstance(at.get("properties"), dict):
                    names.update(at["properties"])
                for below in at.values():
                    collect(below)
            elif isinstance(at, list):
                for below in at:
                    collect(below)

        collect(schema)
        return sorted(names)

    def actions(self):
        with open(os.path.join(self.data, "AdditionalSpecs", "Policies.json"), encoding="utf-8") as file:
            services = json.load(file)
        return {f"{service}:{action}" for service, known in services.items() for action in known.get("Actions", {})}

    def value(self, source, wanted):
        if source == "actions":
            known = self.actions()
            return [one for one in wanted if one.lower() in known]
        return self.properties(source)


def read(fact, botocore, cfn):
    """What the source of a fact says now; None where the place is gone."""
    kind, _, source = fact["source"].partition(":")
    try:
        if kind == "botocore":
            return botocore.value(source)
        if kind == "cfn":
            return cfn.value(source, fact["value"])
    except OSError as error:
        raise CannotTell(f"{fact['id']}: {error}") from error
    raise CannotTell(f"{fact['id']}: no source of the kind {kind}")


def differences(fact, now):
    """What is said of a fact that is not as the table has it; nothing where it is."""
    was = fact["value"]
    if now is None:
        return "is gone from its source"
    if isinstance(was, list):
        missing = [one for one in was if one not in now]
        added = [one for one in now if one not in was] if fact.get("match", "equal") == "equal" else []
        parts = [f"+ {one}" for one in added] + [f"- {one}" for one in missing]
        return ", ".join(map(str, parts))
    return "" if was == now else f"{was} is {now} now"


def texts(path):
    """The text of a file; of a folder, each of its source files'."""
    if not os.path.isdir(path):
        with open(path, encoding="utf-8") as file:
            yield file.read()
        return
    for name in glob.glob(os.path.join(path, "**", "*.rs"), recursive=True):
        with open(name, encoding="utf-8") as file:
            yield file.read()


def in_files(fact):
    """Each file that relies on a fact says it in the words that the table has; of a folder, one of its files does."""
    for use in fact.get("in", []):
        try:
            if not any(re.search(use["says"], text) for text in texts(os.path.join(ROOT, use["file"]))):
                yield f"{use['file']} doesn't say /{use['says']}/"
        except OSError as error:
            yield f"{use['file']}: {error.strerror}"


def concerned(fact):
    return ", ".join(sorted({use["file"] for use in fact.get("in", [])})) or "nothing names it yet"


def load(path):
    try:
        with open(path, "rb") as file:
            facts = tomllib.load(file)["fact"]
    except (OSError, tomllib.TOMLDecodeError, KeyError) as error:
        print(f"facts: {path}: {error}", file=sys.stderr)
        sys.exit(2)
    seen = set()
    for fact in facts:
        lacking = [key for key in ("id", "what", "page", "date") if key not in fact]
        if lacking or fact.get("id") in seen or ("source" in fact) != ("value" in fact):
            print(f"facts: {fact.get('id')}: lacks {lacking or 'an id of its own, or a value for its source'}", file=sys.stderr)
            sys.exit(2)
        seen.add(fact["id"])
    return facts


def compare(facts, args):
    botocore, cfn = Botocore(args.botocore), CfnLint(args.cfn)
    changed = untold = checked = 0
    for fact in facts:
        said = list(in_files(fact))
        for line in said:
            print(f"CHANGED  {fact['id']}: {line}")
        if "source" in fact:
            try:
                difference = differences(fact, read(fact, botocore, cfn))
            except CannotTell as error:
                print(f"--       {error}")
                untold += 1
                difference = ""
            if difference:
                print(f"CHANGED  {fact['id']}, {fact['what']}: {difference}")
                print(f"         {fact['page']}, as of {fact['date']}; concerns {concerned(fact)}")
                said.append(difference)
            checked += 1
        changed += bool(said)
    by_hand = sum("source" not in fact for fact in facts)
    print(f"{len(facts)} facts: {checked} compared, {by_hand} have a page alone; {changed} changed")
    return 1 if changed else 3 if untold else 0


def replay(facts, args):
    old, new, changed = Botocore(args.old), Botocore(args.new), 0
    for fact in facts:
        if not fact.get("source", "").startswith("botocore:"):
            continue
        was = read(fact, old, None)
        now = read(fact, new, None)
        difference = differences({**fact, "value": was if was is not None else [], "match": "equal"}, now)
        if difference and not (was is None and now is None):
            print(f"CHANGED  {fact['id']}, {fact['what']}: {difference}")
            print(f"         concerns {concerned(fact)}")
            changed += 1
    print(f"{changed} facts changed between the two")
    return 1 if changed else 0


def package(name):
    """The folder of a Python package beside this interpreter."""
    for folder in sys.path:
        if os.path.isdir(os.path.join(folder, name, "data")):
            return os.path.join(folder, name)
    return name


def main():
    parser = argparse.ArgumentParser(add_help=True, description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--table", default=os.path.join(HERE, "facts.toml"))
    parser.add_argument("--botocore", default=package("botocore"))
    parser.add_argument("--cfn", default=package("cfnlint"))
    parser.add_argument("--from", dest="old")
    parser.add_argument("--to", dest="new")
    args = parser.parse_args()
    facts = load(args.table)
    try:
        if args.old or args.new:
            if not (args.old and args.new):
                parser.error("--from and --to go together")
            return replay(facts, args)
        return compare(facts, args)
    except CannotTell as error:
        print(f"facts: {error}", file=sys.stderr)
        return 3


if __name__ == "__main__":
    sys.exit(main())
