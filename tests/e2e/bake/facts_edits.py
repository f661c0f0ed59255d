"""Edits what AWS is said to publish, one place for each fact with a source, and the files that rely on facts; prints for
each edit whether facts.py found it: facts_edits.py FACTS.PY BOTOCORE CFNLINT"""
import copy, glob, importlib.util, io, contextlib, os, re, shutil, sys, tempfile, types

path, botocore, cfnlint = sys.argv[1:]
spec = importlib.util.spec_from_file_location("facts", path)
facts = importlib.util.module_from_spec(spec)
spec.loader.exec_module(facts)
table = facts.load(os.path.join(os.path.dirname(path), "facts.toml"))
models = facts.Botocore(botocore)
args = types.SimpleNamespace(botocore=botocore, cfn=cfnlint)


def said(edited_models=None, cfn=None):
    """What compare prints, with edited sources."""
    keep = facts.Botocore, facts.CfnLint
    out = io.StringIO()
    try:
        facts.Botocore = lambda folder: edited_models or models
        if cfn:
            facts.CfnLint = lambda folder: cfn
        with contextlib.redirect_stdout(out):
            code = facts.compare(table, args)
    finally:
        facts.Botocore, facts.CfnLint = keep
    return code, out.getvalue()


def edit_model(fact):
    """A copy of the models in which the place of the fact is otherwise."""
    source, _, pattern = fact["source"].partition(":")[2].partition("#")
    service, *steps = source.split("/")
    edited = facts.Botocore(botocore)
    edited.models = dict(models.models)
    edited.models[service] = model = copy.deepcopy(models.model(service))
    at = model
    for step in steps[:-1]:
        at = at[step]
    last = steps[-1]
    if pattern:
        text = at[last]["documentation"]
        # Another number, or another word, in what the fact is taken from.
        for value in fact["value"]:
            text = text.replace(value, str(int(value) + 7) if value.isdigit() else value[:-1] + "X")
        at[last]["documentation"] = text
    elif isinstance(at[last], list):
        at[last] = at[last][1:] if fact.get("match") == "contains" else at[last] + ["Seeded"]
        if fact.get("match") == "contains":
            at[last] = [one for one in at[last] if one != fact["value"][0]]
    elif isinstance(at[last], dict):
        if fact.get("match") == "contains":
            del at[last][fact["value"][0]]
        else:
            at[last]["Seeded"] = {}
    else:
        at[last] += 1
    return edited


class Without(facts.CfnLint):
    """cfn-lint's data, without one property or action."""

    def __init__(self, folder, fact):
        super().__init__(folder)
        self.fact = fact

    def value(self, source, wanted):
        found = super().value(source, wanted)
        if source == self.fact["source"].partition(":")[2]:
            return [one for one in found if one != self.fact["value"][0]]
        return found


found = missed = 0


def judge(name, code, text, fact):
    global found, missed
    if code == 1 and re.search(rf"^CHANGED  {re.escape(fact['id'])}[,:]", text, re.M):
        found += 1
    else:
        missed += 1
        print(f"MISSED {name}: {code}\n{text}")


code, text = said()
print(f"unedited: {code}")
if code != 0:
    print(text)
for fact in table:
    kind = fact.get("source", "").partition(":")[0]
    if kind == "botocore":
        judge(f"{fact['id']} in botocore", *said(edited_models=edit_model(fact)), fact)
    elif kind == "cfn":
        judge(f"{fact['id']} in cfn-lint", *said(cfn=Without(cfnlint, fact)), fact)
# The files that rely on them, each without the words.
with tempfile.TemporaryDirectory() as folder:
    root = facts.ROOT
    uses = [(fact, use) for fact in table for use in fact.get("in", [])]
    for _, use in uses:
        source, place = os.path.join(root, use["file"]), os.path.join(folder, use["file"])
        os.makedirs(os.path.dirname(place), exist_ok=True)
        if not os.path.isdir(source):
            shutil.copy(source, place)
        elif not os.path.isdir(place):
            shutil.copytree(source, place)
    facts.ROOT = folder
    for fact, use in uses:
        place = os.path.join(folder, use["file"])
        names = [place] if os.path.isfile(place) else glob.glob(os.path.join(place, "**", "*.rs"), recursive=True)
        kept = {}
        for name in names:
            with open(name, encoding="utf-8") as file:
                text = file.read()
            if re.search(use["says"], text):
                kept[name] = text
                with open(name, "w", encoding="utf-8") as file:
                    file.write(re.sub(use["says"], "something else", text))
        lines = list(facts.in_files(fact))
        judge(f"{fact['id']} in {use['file']}", 1 if lines else 0, f"CHANGED  {fact['id']}: {lines}" if lines else "", fact)
        for name, text in kept.items():
            with open(name, "w", encoding="utf-8") as file:
                file.write(text)
print(f"{found} found, {missed} missed")
