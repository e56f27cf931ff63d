"""The report in a real browser: every feature by what the page then shows."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree

import pytest

from graphc.inspect.data import report_data
from graphc.inspect.html import write_page
from graphc.inspect.profile import records_of
from tests.inspect.nets import data_of, measured

MODELS = {"mlp": ("linear", 60), "lstm": ("lstm", 60), "transformer": ("blocks", 120), "resnet18": ("conv", 150)}


@pytest.mark.parametrize("name", MODELS)
def test_reports_of_models_open_folded(open_page, name):
    page = open_page(name)
    part, least = MODELS[name]
    boxes = page.boxes()
    assert 3 <= len(boxes) <= 40 and page.js("r.cy.elements().length") < 150
    assert any(part in b for b in boxes) or part in page.text("#left")
    for i, stage in enumerate(data_of(name)["programs"][0]["stages"]):
        page.stage(stage["key"])
        assert page.js("r.state.stage") == i and len(page.boxes()) <= 40, stage["key"]
        shown = re.search(r"for ([\d,]+) (nodes|launches)", page.text("#status"))
        assert shown and int(shown[1].replace(",", "")) > 2
    assert len(data_of(name)["programs"][0]["stages"][-1]["nodes"]) > least


def test_a_graph_of_5000_nodes_opens_folded(open_page):
    """Fifty equal blocks of a hundred nodes: one box that opens."""
    nodes = [{"op": "input", "kind": "input", "type": "f32[N]", "name": "x", "role": "arg"}]
    scopes = [f"layers.{i}.part{j}" for i in range(50) for j in range(10)]
    for i in range(5000):
        nodes.append({"op": ("exp", "tanh", "neg")[i % 3 if i % 10 else 0], "kind": "elementwise", "type": "f32[N]", "inputs": [i], "scopes": [i // 10]})
    stage = {"key": "traced", "title": "Traced", "about": "", "nodes": list(range(5001)), "outputs": [["y", 5000]], "updates": []}
    program = {
        "name": "f", "graph": "f", "target": "cpu", "dims": {}, "files": [], "scopes": scopes, "inputs": [], "nodes": nodes, "stages": [stage],
        "passes": [], "kernels": [], "launches": [], "sequence": [], "buffers": [],
    }  # fmt: skip
    data = {"format": "graphc-report", "version": 1, "graphc": "0", "title": "deep", "modules": [], "files": [], "rules": {}, "ops": {}, "programs": [program]}
    page = open_page(data)
    assert page.js("r.cy.nodes().length") < 60
    assert "5,001 nodes" in page.text("#status")
    page.click("#fold-all")
    assert page.js("r.cy.nodes().length") <= 3
    print("opened in", page.js("document.documentElement.dataset.ready"), "ms")
    page.click("#open-all")  # what is too much for a person and a browser stays folded; the rest is drawn in rows
    assert 700 < page.js("r.cy.nodes().length") <= 2600 and "folded" in page.text("#status")


def test_slider_buttons_and_keys_walk_along_the_stages(open_page):
    page = open_page()
    keys = [s["key"] for s in data_of("mlp")["programs"][0]["stages"]]
    assert page.get_attribute('[data-stage="traced"]', "aria-pressed") == "true"
    page.fill("#slider", str(keys.index("decompose")))
    assert page.get_attribute('[data-stage="decompose"]', "aria-pressed") == "true"
    page.click("#stage-next")
    assert page.js("r.state.stage") == keys.index("decompose") + 1
    page.focus("#graph")
    page.keyboard.press("[")
    page.keyboard.press("ArrowLeft")
    assert page.js("r.state.stage") == keys.index("decompose") - 1
    for text in ("Traced", "Gradient", "Simplified", "Decomposed", "Fused", "Kernels"):
        assert text in page.text("#stages")


def test_programs_are_tabs(open_page):
    page = open_page()
    page.click('#programs [data-program="predict"]')
    assert page.js("r.report.programs[r.state.program].name") == "predict"
    assert page.get_attribute('#programs [data-program="predict"]', "aria-selected") == "true"
    assert "Backward" not in " ".join(page.boxes())


def test_stepping_through_passes_marks_changes(open_page):
    page = open_page()
    page.focus("#graph")
    seen = []
    for _ in range(3):
        page.keyboard.press(".")
        stage = page.js("r.report.programs[0].stages[r.state.stage].key")
        seen.append((stage, int(page.get_attribute("#graph", "data-added"))))
    assert [s for s, _ in seen] == ["decompose", "simplify primitives", "canonical contractions"]
    assert page.is_checked("#show-changes") and all(n > 0 for _, n in seen[:1])
    page.keyboard.press(",")
    assert page.js("r.report.programs[0].stages[r.state.stage].key") == "simplify primitives"
    page.uncheck("#show-changes")
    assert page.get_attribute("#graph", "data-added") == "0"
    page.click('#bottom-tabs [data-tab="passes"]')
    assert "decompose" in page.text("#passes") and "+" in page.text("#passes")
    page.click("#passes tbody .chips button")  # a rule lights up what it made
    assert page.js("r.state.rule") and int(page.get_attribute("#graph", "data-lit")) > 0


def test_groups_fold_and_open(open_page):
    page = open_page()
    page.stage("gradient")
    before = page.boxes()
    page.click_box("g:backward", times=2)
    opened = page.boxes()
    assert len(opened) > len(before) and page.js("r.state.opened.has('backward')")
    assert page.js("r.cy.getElementById('g:backward').isParent()")
    page.js("r.select('group', 'backward')")
    page.focus("#graph")
    page.keyboard.press("Enter")
    assert sorted(page.boxes()) == sorted(before)
    page.click("#fold-all")
    assert len(page.boxes()) < len(before)
    page.click("#open-all")
    assert len(page.boxes()) > len(opened)


def test_equal_blocks_are_one_box(open_page):
    page = open_page("transformer")
    page.click("#fold-all")
    page.js("r.toggle('forward')")
    label = next(b for b in page.boxes() if "×4" in b)
    assert "blocks.layers [0 – 3]" in label and "TransformerEncoderLayer" in label
    key = page.js("[...r.tree.groups.values()].find(g => g.times === 4).key")
    before = page.js("r.cy.nodes().length")
    page.js("r.toggle(argument)", key)
    inside = page.js("[...r.tree.groups.get(argument).groups.values()].map(g => g.name)", key)
    assert len(inside) == 4 and page.js("r.cy.nodes().length") >= before + 4
    assert page.js("r.cy.nodes('.stack').length") == 0 or "×4" not in " ".join(page.boxes())


def test_equal_blocks_of_one_node(open_page):
    """Blocks that hold one node each become the nodes of one box."""
    from graphc.inspect.data import graph_data
    from tests.inspect.nets import plain_stack

    page = open_page(graph_data(plain_stack()))
    assert any("×6" in b for b in page.boxes())
    page.js("r.toggle([...r.tree.groups.values()].find(g => g.times === 6).key)")
    assert sum(b.startswith("relu") for b in page.boxes()) == 6


def test_kernels_are_groups_in_the_fused_stage(open_page):
    page = open_page()
    page.stage("fused")
    page.click("#open-all")
    count = len(data_of("mlp")["programs"][0]["launches"])
    frames = page.js("r.cy.nodes(':parent').map(n => n.data('label'))")
    kernels = [f for f in frames if f.startswith("kernel ")]
    assert len(kernels) == count
    page.stage("kernels")
    page.click("#open-all")
    assert page.js("r.cy.nodes().filter(n => !n.isParent()).length") == count


def test_search_finds_nodes_modules_kernels_and_lines(open_page):
    page = open_page()
    page.stage("fused")
    page.focus("#graph")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.type("dot_general")
    assert page.locator("#found button").count() >= 2
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.js("r.state.selected !== null") and page.is_hidden("#found")
    for text, kind in (("head", "module"), ("adam", ""), ("self.head", "line"), ("body.0.weight", "buffer")):
        page.fill("#search", text)
        found = page.text("#found")
        assert text.lower() in found.lower() or kind in found, (text, found)
    page.fill("#search", "no such thing")
    assert "nothing" in page.text("#found")
    page.press("#search", "Escape")
    assert page.is_hidden("#found")


def node_of(name, op, stage="fused"):
    p = data_of(name)["programs"][0]
    at = next(s for s in p["stages"] if s["key"] == stage)
    return next(i for i in at["nodes"] if p["nodes"][i]["op"] == op and p["nodes"][i].get("scopes"))


def test_the_panel_tells_all_about_a_node(open_page):
    page = open_page()
    page.stage("fused")
    page.js("r.select('node', argument)", node_of("mlp", "dot_general"))
    text = page.text("#panel")
    for wanted in ("dot_general", "f32[N, 32]", "float32", "8.00 KiB", "262 k", "contract", "body.0", "nets.py:", "self.body(x)"):
        assert wanted in text, wanted
    for heading in ("READS", "READ BY", "YOUR CODE", "FUSION", "KERNEL", "MEMORY"):
        assert heading in text.upper(), heading
    assert page.locator("#panel .snippet .row.on").count() == 1 and page.locator("#panel .snippet .row").count() > 3
    lit = page.locator("#panel .source .row.on code").all_inner_texts()
    assert any("fma" in line for line in lit)
    page.click("#panel .source .row.live >> nth=-1")  # a line of the kernel selects its node
    assert page.js("r.state.selected.kind") == "node" and page.js("r.state.selected.id") != node_of("mlp", "dot_general")
    page.js("r.select('node', argument)", node_of("mlp", "dot_general"))
    page.click("#panel button.link[data-node] >> nth=0")
    assert page.js("r.state.selected.id") in data_of("mlp")["programs"][0]["nodes"][node_of("mlp", "dot_general")]["inputs"]


def test_the_panel_tells_where_a_value_lies(open_page):
    page = open_page()
    p = data_of("mlp")["programs"][0]
    stored = next(i for i, b in enumerate(p["buffers"]) if "offset" in b and "node" in b)
    page.stage("fused")
    page.js("r.select('node', argument)", p["buffers"][stored]["node"])
    assert f"{p['buffers'][stored]['offset']:,} in the arena" in page.text("#panel")
    assert page.locator("#arena .bar.on").count() == 1
    page.js("r.select('node', argument)", node_of("mlp", "maximum"))
    assert "registers" in page.text("#panel") or "in the arena" in page.text("#panel")


def test_a_node_is_followed_through_passes(open_page):
    """A node that a pass only gave other operands stays selected."""
    page = open_page()
    p = data_of("mlp")["programs"][0]
    step = next(x for x in p["passes"] if x["rewired"] and x["name"] != "decompose")
    old, new = step["rewired"][0]
    page.js(f"r.set({{stage: {step['stage'] - 1}}})")
    page.js("r.select('node', argument)", old)
    page.click("#stage-next")
    assert page.js("r.state.selected.id") == new
    page.click("#stage-back")
    assert page.js("r.state.selected.id") == old


def test_groups_kernels_and_launches_have_panels(open_page):
    page = open_page()
    page.stage("kernels")
    page.js("r.select('launch', 2)")
    text = page.text("#panel").upper()
    for heading in ("COMPUTES", "FROM YOUR CODE", "READS", "WRITES", "SOURCE", "INTENSITY", "PHASE"):
        assert heading in text, heading
    assert page.locator("#panel .source .row.live").count() > 3
    page.click('#bottom-tabs [data-tab="kernels"]')
    page.click("#kernels tbody tr >> nth=0")
    assert page.js("r.state.selected.kind") == "kernel" and "LAUNCHES" in page.text("#panel").upper()
    page.stage("traced")
    page.js("r.select('group', 'forward')")
    assert "Forward" in page.text("#panel") and "OPERATORS" in page.text("#panel").upper()
    page.js("r.select(null, null)")
    assert "WHERE THE WORK IS" in page.text("#panel").upper() and "arena" in page.text("#panel")


def test_a_source_line_lights_up_its_nodes_in_every_stage(open_page):
    page = open_page()
    rows = page.locator("#left .row.live")
    assert rows.count() >= 3
    row = page.locator("#left .row.live", has_text="self.head(x)")
    assert int(row.locator(".badge").inner_text()) > 1
    row.click()
    assert page.js("r.state.line") is not None
    stages = [s["key"] for s in data_of("mlp")["programs"][0]["stages"]]
    for key in stages:
        page.stage(key)
        assert int(page.get_attribute("#graph", "data-lit")) > 0, key
    assert page.locator("#panel .ladder button").count() == len(stages)
    assert page.locator("#panel .source .row.on").count() > 3  # lines of its kernels
    assert page.locator("#left .row.on").count() == 1
    page.keyboard.press("Escape")
    assert page.js("r.state.line") is None
    page.stage("fused")  # and back: a node shows its line
    page.js("r.select('node', argument)", node_of("mlp", "dot_general"))
    assert page.locator("#left .row.near").count() >= 1


def test_modules_are_a_table(open_page):
    page = open_page("transformer")
    page.click('#left-tabs [data-tab="modules"]')
    assert "TransformerEncoderLayer" in page.text("#left") and "Embedding" in page.text("#left")
    page.click("#left-body tr.link", position={"x": 20, "y": 8})
    assert page.js("r.state.selected.kind") == "group"


def with_profile():
    """The data of the small network's report, with what was measured."""
    model, p = measured()
    programs = {m: model.executables[m] for m in ("train_step", "predict")}
    return report_data(programs, "DigitsMLP", profiles=records_of(p, programs))


def test_colours(open_page):
    page = open_page()
    options = page.locator("#colour option").all_inner_texts()
    assert options == ["kind", "phase", "module", "dtype", "bytes", "operations", "measured time", "distance from the roofline"]
    fills = {}
    for value in ("kind", "phase", "scope", "dtype", "bytes", "flops"):
        page.select_option("#colour", value)
        fills[value] = page.js("r.cy.nodes().filter(n => !n.isParent()).map(n => n.data('fill')).join()")
        assert page.text("#legend").strip(), value
    assert len(set(fills.values())) >= 4
    assert page.is_disabled('#colour option[value="time"]') and page.is_disabled('#colour option[value="roofline"]')
    timed = open_page(with_profile())
    for value in ("time", "roofline"):
        timed.stage("kernels")
        timed.select_option("#colour", value)
        assert timed.text("#legend").startswith(("measured time: 0", "distance from the roofline: 1")) and len(set(timed.js("r.cy.nodes().filter(n => !n.isParent()).map(n => n.data('fill'))"))) > 2


def test_the_arena_over_phases(open_page):
    page = open_page("transformer")
    p = data_of("transformer")["programs"][0]
    placed = [b for b in p["buffers"] if "offset" in b]
    assert page.locator("#arena rect.bar").count() == len(placed)
    assert page.locator("#arena rect.peak").count() == 1 and "Peak" in page.text("#bottom")
    page.locator("#arena rect.bar").nth(0).click()
    assert (page.js("r.state.selected.kind") == "buffer" and "in the arena" in page.text("#panel")) or "of the arena" in page.text("#panel")
    assert page.locator("#arena rect.bar.on").count() == 1 and page.locator("#arena rect.bar.off").count() == len(placed) - 1


def test_the_launches_over_time(open_page):
    page = open_page()
    page.click('#bottom-tabs [data-tab="launches"]')
    launches = data_of("mlp")["programs"][0]["launches"]
    assert page.locator("#launches rect.bar").count() == len(launches) and "Not measured" in page.text("#bottom")
    assert page.locator("#launches line.barrier").count() == sum("barrier" in x for x in launches)
    data = with_profile()
    record = data["programs"][0]["profile"]
    timed = open_page(data)
    timed.click('#bottom-tabs [data-tab="launches"]')
    assert timed.locator("#launches rect.bar").count() == len(record["timeline"]) == 2 * len(record["launches"])
    assert timed.locator("#launches rect.wait").count() == len(record["barriers"]) > 0
    assert "thread 1" in timed.text("#bottom") and "waiting at barriers" in timed.text("#bottom")
    timed.locator("#launches rect.bar").nth(3).click()
    assert timed.js("r.state.selected.kind") == "launch" and "roofline" in timed.text("#panel")
    timed.js("r.select(null, null)")
    assert "WHERE THE TIME GOES" in timed.text("#panel").upper()


def test_two_reports_are_compared(open_page, tmp_path):
    other = copy.deepcopy(data_of("mlp"))
    other["title"] = "before"
    stage = other["programs"][0]["stages"][0]
    gone = stage["nodes"].pop()
    other["programs"][0]["kernels"][0]["name"] = "k_other"
    write_page(tmp_path / "before.html", other)
    (tmp_path / "before.json").write_text(json.dumps(other))
    for name in ("before.html", "before.json"):
        page = open_page()
        page.set_input_files("#file", tmp_path / name)
        page.wait_for_selector("#comparison")
        text = page.text("#comparison")
        op = data_of("mlp")["programs"][0]["nodes"][gone]["op"]
        assert "Only here: 1 node" in text.replace("ONLY HERE", "Only here").replace("NODE", "node") and op in text
        assert page.get_attribute("#graph", "data-added") == "1"
        assert "k_other" in text and name in text.replace("BEFORE", "before")
    (tmp_path / "else.html").write_text("<p>nothing</p>")
    page.set_input_files("#file", tmp_path / "else.html")
    page.wait_for_selector("#dialog[open]")
    assert "no report" in page.text("#dialog")


def test_light_and_dark(open_page):
    page = open_page()
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    page.evaluate("localStorage.clear()")
    assert open_page(dark=True).evaluate("document.documentElement.dataset.theme") == "dark"


def test_an_address_leads_back(open_page):
    page = open_page("transformer")
    page.stage("decompose")
    page.js("r.toggle('backward')")
    page.select_option("#colour", "flops")
    page.click('#bottom-tabs [data-tab="passes"]')
    page.js("r.select('node', argument)", node_of("transformer", "dot_general", "decompose"))
    page.wait_for_timeout(300)
    address = page.evaluate("location.hash")
    again = open_page(page.path, hash=address)
    for what in ("r.state.stage", "r.state.colour", "r.state.bottom", "r.state.selected", "[...r.state.opened].sort()", "r.cy.nodes().map(n => n.id()).sort()"):
        assert again.js(what) == page.js(what), what


def exported(page, name):
    page.click("#export")
    with page.expect_download() as download:
        page.click(f'#export-menu [data-format="{name}"]')
    path = download.value.path()
    return download.value.suggested_filename, path.read_bytes()


def test_exports(open_page):
    page = open_page()
    page.stage("fused")
    name, picture = exported(page, "svg")
    assert name.endswith(".svg")
    tree = ElementTree.fromstring(picture)
    texts = [t.text for t in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert any("Backward" in (t or "") for t in texts) and b"NaN" not in picture
    _, picture = exported(page, "png")
    assert picture.startswith(b"\x89PNG") and len(picture) > 5000
    _, text = exported(page, "dot")
    assert text.startswith(b"digraph") and b"subgraph cluster_0" in text
    if shutil.which("dot"):
        assert b"<svg" in subprocess.run(["dot", "-Tsvg"], input=text, capture_output=True, check=True).stdout
    _, text = exported(page, "json")
    assert json.loads(text) == json.loads(json.dumps(data_of("mlp")))
    _, text = exported(page, "text")
    assert b"dot_general(" in text and b"# nets.py:" in text


def test_the_stage_as_text(open_page):
    page = open_page()
    page.click('#bottom-tabs [data-tab="text"]')
    assert "= linear(%" in page.text("#stage-text") and "# nets.py" in page.text("#stage-text")
    page.locator("#stage-text .row.live", has_text="relu").click()
    assert "relu" in page.text("#panel")


def test_the_keyboard(open_page):
    page = open_page()
    page.focus("#graph")
    page.keyboard.press("j")
    first = page.js("r.state.selected")
    page.keyboard.press("ArrowDown")
    assert page.js("r.state.selected") != first
    page.keyboard.press("k")
    page.keyboard.press("?")
    assert "Keys" in page.text("#dialog")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    assert page.js("r.state.selected") is None
    page.keyboard.press("c")
    assert page.js("r.state.colour") != "kind"
    page.keyboard.press("d")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.keyboard.press("2")
    assert page.js("r.state.bottom") == "launches"
    zoom = page.js("r.cy.zoom()")
    page.keyboard.press("+")
    assert page.js("r.cy.zoom()") > zoom
    page.stage("gradient")
    page.js("r.select('group', 'backward')")
    page.focus("#graph")
    page.keyboard.press("Enter")
    assert page.js("r.state.opened.has('backward')")


def test_parameters_and_constants_can_be_shown(open_page):
    page = open_page()
    few = len(page.boxes())
    page.check("#show-params")
    assert any("head.weight" in b for b in page.boxes()) or len(page.boxes()) > few
    page.stage("decompose")
    page.click("#open-all")
    some = len(page.boxes())
    page.check("#show-consts")
    page.click("#open-all")
    assert len(page.boxes()) > some


def test_loops_are_groups(open_page):
    page = open_page("lstm")
    page.stage("decompose")
    page.click("#open-all")
    frames = page.js("r.cy.nodes(':parent').map(n => n.data('label'))")
    assert any("loop ×7" in f for f in frames)
    inside = page.js("r.cy.nodes().filter(n => n.parents().some(p => p.data('label').includes('loop'))).length")
    assert inside > 5


EVIL = ["</script><script>window.pwned=1</script>", "<img src=x onerror='window.pwned=1'>", "\"'`${1}", "🙂 ü 漢字", "x" * 10_000, "a\nb\tc\u2028", "&lt;b&gt;", "<!--"]


def test_hostile_names_do_no_harm(open_page):
    data = copy.deepcopy(data_of("mlp"))
    p = data["programs"][0]
    p["name"] = data["title"] = EVIL[0]
    for i, n in enumerate(p["nodes"]):
        evil = EVIL[i % len(EVIL)]
        n["attrs"] = {evil[:300]: evil[:400]}
        if n["op"] == "input":
            n["name"] = evil + str(i)
        elif i % 3 == 0:
            n["op"] = evil
        n["type"] = evil if i % 7 == 0 else n["type"]
    p["scopes"] = [f"{EVIL[i % len(EVIL)]}.{s}" for i, s in enumerate(p["scopes"])]
    for i, x in enumerate(p["launches"]):
        x["name"], x["axes"] = EVIL[i % len(EVIL)], [EVIL[(i + 1) % len(EVIL)]]
    for i, k in enumerate(p["kernels"]):
        k["source"] = EVIL[i % len(EVIL)] + "\n" + k["source"]
        k["name"] += EVIL[i % len(EVIL)]
    for i, b in enumerate(p["buffers"]):
        b["name"] = EVIL[i % len(EVIL)]
    for f in data["files"]:
        f["name"] = f["path"] + EVIL[0]
        f["lines"] = {k: EVIL[int(k) % len(EVIL)] for k in f["lines"]}
    data["rules"] = {EVIL[0]: EVIL[1]}
    data["ops"] = dict.fromkeys(EVIL, EVIL[0])
    data["modules"] = [{"path": e, "class": e, "output": e, "macs": e} for e in EVIL]
    p["decisions"]["reasons"] = [EVIL[0]] * len(p["decisions"]["reasons"])
    p["notes"] = EVIL
    page = open_page(data)
    assert page.text("#title").startswith("</script><script>")
    for i, stage in enumerate(p["stages"]):
        page.js("r.set({stage: argument})", i)
        if i in (0, 3, len(p["stages"]) - 2):
            page.click("#open-all")
        page.js("r.select('node', argument)", stage["nodes"][len(stage["nodes"]) // 2])
    for tab in ("memory", "launches", "kernels", "passes", "text", "compare"):
        page.click(f'#bottom-tabs [data-tab="{tab}"]')
    page.click('#left-tabs [data-tab="modules"]')
    for kind in ("launch", "buffer"):
        page.js("r.select(argument, 1)", kind)
    page.fill("#search", "</script>")
    page.press("#search", "Escape")
    assert page.evaluate("window.pwned") is None and page.locator("img").count() == 0
    assert page.locator("script").count() == 3
    assert "🙂" in page.js("r.svg()") or "漢字" in page.js("r.svg()") or "script" in page.js("r.svg()")
    ElementTree.fromstring(page.js("r.svg()"))
