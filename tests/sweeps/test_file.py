"""A sweep's file: what it means, and a sentence for whatever is wrong with it."""

import pytest

from plasticity import sweeps
from plasticity.errors import UserError
from plasticity.sweeps import file

RUN = '[run]\ndata = "sample"\nwidth = 0.02\nsteps = 2\n'


def parsed(text):
    return sweeps.parse(text, "mine", "mine.toml")


def labels(text):
    return [row.title for row in parsed(text).rows]


def test_a_grid_is_every_combination_and_every_variant_has_all_of_it():
    text = RUN + "[grid]\nlr = [1e-3, 2e-4]\nbatch = [4, 8]\n"
    assert labels(text) == [
        "lr=0.001, batch=4", "lr=0.001, batch=8", "lr=0.0002, batch=4", "lr=0.0002, batch=8",
    ]  # fmt: skip
    text += '[[variant]]\nname = "a b"\nrule = "clapp"\n[[variant]]\nrule = "oja"\n'
    assert labels(text)[0] == "a b, lr=0.001, batch=4"
    assert labels(text)[-1] == "oja, lr=0.0002, batch=8"
    assert len(labels(text)) == 8


def test_without_a_grid_and_variants_there_is_one_row():
    assert labels(RUN) == ["clapp"] and labels("") == ["clapp"]


def test_a_row_goes_over_the_common_options_and_trains_longer_where_it_says_so():
    text = RUN + '[run.set]\na = 1\nb = 2\n[[variant]]\nname = "x"\nlonger = 3\nset.b = 5\nlr = 1\n'
    sweep = parsed(text)
    options = sweep.experiment(sweep.rows[0], 7).options
    assert (options.steps, options.lr, options.width, options.seed) == (6, 1.0, 0.02, 7)
    assert options.set == {"a": "1", "b": "5"}


def test_fields_of_a_rule_may_vary_too():
    sweep = parsed('[run]\nrule = "softhebb"\n[grid]\nset.tau = [1, 2.5]\nset.kind = ["a"]\n')
    assert [row.label for row in sweep.rows] == ["set.tau=1, set.kind=a", "set.tau=2.5, set.kind=a"]
    assert sweep.experiment(sweep.rows[1], 0).options.set == {"tau": "2.5", "kind": "a"}


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("", (0,)),
        ("seeds = 3", (0, 1, 2)),
        ("seeds = [5, 3]", (5, 3)),
        ("seeds = 2\n[run]\nseed = 4", (4, 5)),
    ],
)
def test_seeds_are_counted_or_named(text, seeds):
    assert parsed(text).seeds == seeds
    assert parsed(text).seeded(2).seeds == (seeds[0], seeds[0] + 1)


def test_all_rows_have_one_seed_before_any_has_two():
    found = parsed("seeds = 2\n" + RUN + '[grid]\nrule = ["oja", "random"]').experiments()
    assert [e.name for e in found] == [
        "oja,seed=0", "random,seed=0", "oja,seed=1", "random,seed=1",
    ]  # fmt: skip


def test_rows_that_show_other_layers_share_their_runs():
    sweep = parsed(RUN + "[grid]\nprobed = [1, 2, 6]")
    assert [row.layer for row in sweep.rows] == [1, 2, 6] and len(sweep.experiments()) == 1


def test_probes_are_asked_for_as_the_file_says_and_else_as_the_options_do():
    row = parsed("").rows[0]
    usual = parsed("[run]\nprobe_train = 50").experiment(row, 0).probes
    assert usual == {
        "regularised": {"protocol": "regularised", "train_images": 50, "test_images": 400}
    }
    both = '[probe]\nprotocol = ["published", "regularised"]\ntest = 7\nviews = 2\ntask = "clips"'
    asked = parsed(both).experiment(row, 0).probes
    assert asked["published"] == {
        "protocol": "published", "train_images": 600, "test_images": 7, "task": "clips",
        "epochs": 0, "views": 2,
    }  # fmt: skip
    assert "views" not in asked["regularised"] and list(asked) == ["published", "regularised"]
    assert parsed("[run]\nprobe = false").experiment(row, 0).probes == {}


def test_what_the_folder_keeps_makes_the_same_sweep(tmp_path):
    text = (
        'seeds = [3, 1]\ntitle = "A \\"title\\""\nsource = "a paper"\n' + RUN + "[run.set]\nx = 1\n"
        '[grid]\nlr = [1e-3, 2e-4]\nset.tau = [1, 2]\n[probe]\nprotocol = "published"\nviews = 3\n'
        '[compare]\ntest = "welch"\n[[variant]]\nname = "a, b/c"\nlonger = 2\n'
        "block_grad = true\npublished = 20.5\n"
    )
    asked = parsed(text)
    file.write(asked, tmp_path)
    kept = sweeps.read(tmp_path / sweeps.NAME)
    for name in ("title", "source", "rows", "run", "probe", "compare", "seeds", "varied"):
        assert getattr(kept, name) == getattr(asked, name), name


def test_a_folder_is_named_after_its_row_and_no_name_leads_out_of_it():
    assert file.folder_of("CLAPP, lr=0.001") == "CLAPP,lr=0.001"
    for label in ("../../etc", "a/b", "..", "a\nb", "x" * 500, "ü" * 300, "*?", "/"):
        name = file.folder_of(label)
        assert name and "/" not in name and not name.startswith(".") and len(name.encode()) < 200
    assert file.folder_of("x" * 500) != file.folder_of("x" * 501)


VARIANTS = '[[variant]]\nname = "a"\nrule = "oja"\n[[variant]]\nname = "{}"\nrule = "{}"\n'


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a = = 1", "mine.toml: not a readable TOML file"),
        ("seed = 3", "unknown key 'seed': did you mean 'seeds'"),
        ("[run]\nwidht = 1", r"unknown key 'widht' in \[run\]: did you mean 'width'"),
        ("[grid]\nraet = [1]", r"unknown key 'raet' in \[grid\]"),
        ("[probe]\nprotokol = 1", r"unknown key 'protokol' in \[probe\]: did you mean 'protocol'"),
        ("[[variant]]\nname = 'x'\nrul = 'oja'", r"in \[\[variant\]\] 'x': did you mean 'rule'"),
        ("run = 3", r"\[run\] should be a table of keys, it is 3"),
        ("[variant]\nname = 'x'", r"two brackets, \[\[variant\]\]"),
        ("[run]\nwidth = 'a'", r"\[run\] width: the option width should be a finite number"),
        ("[grid]\nlr = [1e-3, 'x']", r"mine.toml: \[grid\] lr: the option lr should be a finite"),
        ("[grid]\ndtype = ['float16']", r"\[grid\] dtype: unknown --dtype 'float16': expected"),
        ("[grid]\nrule = ['ojaa']", r"\[grid\] rule: unknown rule 'ojaa': did you mean 'oja'"),
        ("[grid]\nnet = ['vgg7']", r"\[grid\] net: unknown network 'vgg7': did you mean 'vgg6'"),
        ("[grid]\nlr = 1e-3", r"\[grid\] lr should be a list of values, it is 0.001"),
        ("[grid]\nlr = []", r"\[grid\] lr is an empty list"),
        ("[grid]\nlr = [1e-3, 0.001]", r"\[grid\] lr names 0.001 twice"),
        ("[grid]\nset = 3", r"\[grid\] set should be a table of fields"),
        ("[grid]\nset.tau = []", r"\[grid\] set.tau is an empty list"),
        ("[grid]\nseed = [1]", "seeds are named by 'seeds'"),
        ("[grid]\nprobed = [0]", r"\[grid\] probed should be a positive whole number"),
        ("[run]\nlr = 1\n[grid]\nlr = [1]", r"'lr' stands in \[run\] and in \[grid\]"),
        ("[grid]\nlr = [1]\n[[variant]]\nlr = 2", r"names 'lr', which \[grid\] varies"),
        ("seeds = 0", "seeds should be a positive whole number, it is 0"),
        ("seeds = -2", "seeds should be a positive whole number, it is -2"),
        ("seeds = true", "seeds should be a positive whole number, it is True"),
        ("seeds = 2.0", "seeds should be a positive whole number, it is 2.0"),
        ("seeds = []", "seeds is an empty list"),
        ("seeds = [1, 1]", "seeds names 1 twice"),
        ("seeds = [-1]", "a seed should be a whole number, not negative, it is -1"),
        ("seeds = [99999999999999999999]", "seeds: seed: --seed is at most"),
        ("seeds = [1]\n[run]\nseed = 2", "say the same thing"),
        (VARIANTS.format("a", "bcm"), "two variants are called 'a'"),
        (VARIANTS.format("b", "oja"), "'a' and 'b' are one run: their options are the same"),
        (VARIANTS.format("A", "bcm"), "'a' and 'A' would have one folder"),
        (VARIANTS.format(" ", "bcm"), "name should be a text"),
        ("[[variant]]\npublished = 101", "published should be a number in percent"),
        ("[[variant]]\nlonger = 0", "longer should be a positive whole number"),
        ("[[variant]]\nseed = 1", "seeds are named by 'seeds'"),
        ("[probe]\nprotocol = []", r"\[probe\] protocol is an empty list"),
        (
            "[probe]\nprotocol = 'public'",
            r"\[probe\] protocol is 'public': did you mean 'published'",
        ),
        ("[probe]\ntrain = -1", r"\[probe\] train should be a whole number, not negative"),
        ("[compare]\nbaseline = 'x'", r"\[compare\] baseline is 'x': expected clapp"),
        ("[compare]\ntest = 'welsh'", r"\[compare\] test is 'welsh': did you mean 'welch'"),
        ("seeds = 20000", "it asks for 20,000 runs, at most 10,000 are made"),
        ("[run]\nnet-x = 1\n", "unknown key 'net-x'"),
        ("[run]\nprobe-train = 1\nprobe_train = 2\n", r"'probe_train' stands twice in \[run\]"),
    ],
)
def test_what_is_wrong_is_said_with_the_file_and_the_key(text, sentence):
    with pytest.raises(UserError, match=sentence) as found:
        parsed(text)
    assert str(found.value).startswith("mine.toml: ") and "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[run]\ngate = 'shared'\nrule = 'oja'", "oja: --gate has no meaning for the rule oja"),
        ("[run]\nrule = 'oja'\n[grid]\nset.tau = [1]", "set.tau=1: --set tau: oja has no such"),
        ("[grid]\nprobed = [7]", "layer 7 is probed, and the network has 6"),
        ("[run]\ndata = 'stl10'\ndata_dir = '/nowhere'", "/nowhere"),
    ],
)
def test_what_does_not_go_together_is_said_before_anything_runs(text, sentence):
    with pytest.raises(UserError, match=sentence) as found:
        parsed(text).experiments()
    assert str(found.value).startswith("mine.toml: ")


def test_code_that_a_file_names_runs_only_if_it_is_known_or_trusted(tmp_path):
    rule = tmp_path / "rule.py"
    rule.write_text("# nobody has agreed to this text\n")
    text = f"[grid]\nrule = ['{rule}', 'oja']"
    with pytest.raises(UserError, match=r"mine.toml: \[grid\] rule: .*which is not known here"):
        parsed(text)
    assert sweeps.parse(text, "mine", trusted=True).rows[0].label == "rule"


def test_a_folder_with_something_else_is_refused(tmp_path):
    asked = parsed(RUN + "[grid]\nlr = [1e-3, 2e-4]")
    sweeps.check_folder(asked, tmp_path)  # it is empty
    sweeps.check_folder(asked, tmp_path / "new")
    (tmp_path / "a file").touch()
    with pytest.raises(UserError, match="holds something already, and no sweep"):
        sweeps.check_folder(asked, tmp_path)
    file.write(asked, tmp_path)
    sweeps.check_folder(asked, tmp_path)
    sweeps.check_folder(parsed(RUN + "[grid]\nlr = [1e-3, 2e-4, 1]"), tmp_path)
    with pytest.raises(UserError, match=r"another sweep, with 'lr=0.0002', which mine.toml has"):
        sweeps.check_folder(parsed(RUN + "[grid]\nlr = [1e-3]"), tmp_path)
