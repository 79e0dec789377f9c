"""The page of a run in a real browser: opened from a disk, clicked, typed at."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from rl.view import main
from tests.e2e.browser import Opened, chromium, opened
from tests.run_folders import Told, logged_group, write_run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

STEPS = 3
EVIL = "</script><script>window.ran=1</script><img src=x onerror='window.ran=2'>\"'`${window.ran=3}"


def answers(step: int) -> list[Told]:
    """A right one of three tokens, a wrong one that was left out, and one that timed out."""
    right = Told(
        ("I see", " 2", "<|im_end|>"),
        detail="2 = 2",
        entropies=(0.1, 1.9, 0.0),
        gaps=(-0.5, 0.0, 0.25),
        lag=step % 2,
    )
    late = Told(("never" * 3,), reward=None, cause="timeout", detail="killed after 5 s")
    return [right, Told(("3",), reward=0.1 * step, cause="wrong", detail="3 is not 2"), late]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as made:
        yield made


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of 10 problems a step, of which the second has other rewards and another seed."""
    folder = tmp_path_factory.mktemp("runs")
    for name, seed in (("one", 0), ("two", 7)):
        steps = [
            [logged_group(step, f"p{place}", answers(step + seed)) for place in range(10)]
            for step in range(STEPS)
        ]
        write_run(folder / name, steps, seed=seed)
    return folder


@pytest.fixture
def one(browser: Browser, runs: Path) -> Iterator[Opened]:
    with opened(browser, runs / "one" / "report.html") as page:
        yield page
        assert not page.faults
        assert all(path.is_relative_to(runs / "one") for path in page.read)


def test_curves_tell_their_values_to_eye_arrow_key_and_label(one: Opened) -> None:
    chart = one.page.locator(".chart", has_text="mean reward of an answer").first
    picture = chart.locator("svg[role=img]")
    expect(picture).to_have_attribute("aria-label", "Reward: reward 0.5 at step 0, 0.7 at step 2")
    assert len(chart.locator("circle").all()) == STEPS
    picture.focus()
    one.page.keyboard.press("Home")
    one.page.keyboard.press("ArrowRight")
    expect(chart.locator(".told")).to_have_text("step 10.6")
    one.page.keyboard.press("Enter")
    expect(one.page.locator("#count")).to_have_text("30 of 90 samples")
    assert set(one.texts(".grid h3")) == {"step 1"}


def test_every_figure_that_was_logged_can_be_found(one: Opened) -> None:
    one.page.get_by_label("Show figures whose name holds").fill("gap")
    shown = one.page.locator(".charts.small .place:visible figcaption")
    expect(shown).to_have_text(["logprob_gap"])


def test_samples_are_filtered_sorted_and_turned_page_by_page(one: Opened) -> None:
    page = one.page
    page.keyboard.press("s")
    expect(page.locator(".card")).to_have_count(24)
    first = page.locator(".card").first
    page.keyboard.press("n")
    expect(page.locator("#page")).to_have_value("2")
    page.locator('[data-word="wrong"]').click()
    expect(page.locator("#count")).to_have_text("30 of 90 samples")
    expect(page.locator("#page")).to_have_value("1")
    page.locator("#sort").select_option("reward")
    expect(first).to_contain_text("reward 0.2")
    page.locator("#order").click()
    expect(first).to_contain_text("reward 0")
    page.locator("#reward_from").fill("0.05")
    page.locator("#reward_from").press("Enter")
    expect(page.locator("#count")).to_have_text("20 of 90 samples")
    page.reload()
    expect(page.locator("#count")).to_have_text("20 of 90 samples")
    expect(first).to_contain_text("reward 0.1")
    page.locator("#clear").click()
    page.locator("#staleness_from").fill("1")
    page.locator("#staleness_from").press("Enter")
    expect(page.locator("#count")).to_have_text("10 of 90 samples")


def test_a_sample_shows_image_question_tokens_and_reasons(one: Opened) -> None:
    page = one.page
    page.keyboard.press("s")
    page.locator(".card", has_text="I see 2").first.click()
    dialog = page.locator("#sample")
    image = dialog.locator(".pictures img")
    expect(image).to_be_visible()
    assert image.evaluate("image => image.naturalWidth") == 30
    expect(dialog.locator(".parts tbody tr")).to_contain_text(["math", "2 = 2"][:1])
    expect(dialog.locator(".parts .reason")).to_have_text("2 = 2")
    assert one.texts("#sample .token") == ["I see", " 2", "<|im_end|>"]

    def depth(token: int) -> float:
        script = "token => getComputedStyle(token).backgroundColor.split('/')[1] ?? '0'"
        shade = dialog.locator(".token").nth(token).evaluate(script)
        return float(shade.strip(" )"))

    assert depth(1) > 4 * depth(0) > depth(2) == 0, "entropies of 1.9, 0.1 and 0 nats"
    dialog.locator(".token").nth(1).hover()
    expect(dialog.locator(".readout")).to_contain_text("probability 77.9 %")
    dialog.locator('[data-shade="gap"]').click()
    colours = [
        dialog.locator(".token").nth(i).evaluate("t => t.style.backgroundColor") for i in range(3)
    ]
    assert "--cool" in colours[0] and "--heat" in colours[2] and not colours[1]
    expect(dialog.locator(".note")).to_contain_text("less the sampler")


def test_keys_go_through_samples_and_close_them(one: Opened) -> None:
    page = one.page
    page.keyboard.press("s")
    page.locator(".card").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    dialog = page.locator("#sample")
    expect(dialog.locator(".dialoghead")).to_contain_text("2 of 90")
    expect(dialog.locator(".note")).to_contain_text("left out of the update")
    page.keyboard.press("j")
    expect(dialog.locator(".dialoghead")).to_contain_text("3 of 90")
    expect(dialog.locator(".reason")).to_have_text("killed after 5 s")
    page.keyboard.press("k")
    page.keyboard.press("k")
    expect(dialog.locator(".dialoghead")).to_contain_text("1 of 90")
    page.keyboard.press("t")
    expect(dialog.locator("[data-shade=gap]")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.keyboard.press("r")
    expect(page.locator("#main")).to_contain_text("reward.weights.math")


def test_only_the_texts_that_are_shown_are_read(browser: Browser, tmp_path: Path) -> None:
    long = [Told(("word " * 12_000,), reward=0.0, cause="wrong")] * 8
    run = write_run(
        tmp_path / "long", [[logged_group(step, f"p{step}", long)] for step in range(6)]
    )
    parts = len(list((run / "report").glob("cards_*.js")))
    assert parts >= 12
    with opened(browser, run / "report.html", "part=samples&step_to=0") as page:
        expect(page.page.locator(".answer")).to_have_count(8)
        read = {path.name for path in page.read if path.name.startswith("cards_")}
        assert 0 < len(read) <= parts // 3


def test_two_runs_are_compared_curve_by_curve_key_by_key_and_answer_by_answer(
    browser: Browser, runs: Path
) -> None:
    main([str(runs / "one"), str(runs / "two")])
    with opened(browser, runs / "one" / "compare_two.html") as page:
        reward = page.page.locator(".chart", has_text="mean reward of an answer").first
        assert reward.locator(".legend span").all_text_contents() == ["reward, one", "reward, two"]
        page.page.keyboard.press("r")
        assert page.texts(".keys tbody code") == ["name", "seed"]
        page.page.keyboard.press("s")
        expect(page.page.locator("#count")).to_have_text("180 samples")
        page.page.locator(".chip", has_text="two").click()
        expect(page.page.locator("#count")).to_have_text("90 of 180 samples")
        page.page.locator(".card").first.click()
        elsewhere = page.page.locator("#sample section", has_text="The same problem elsewhere")
        expect(elsewhere.locator(".chip")).to_have_count(2 * 9 - 3)
        elsewhere.locator(".chip").first.click()
        expect(page.page.locator("#sample h2")).to_contain_text("one p0")
        expect(page.page.locator("#sample .pictures img")).to_be_visible()
        assert not page.faults
        assert all(path.is_relative_to(runs) for path in page.read)


def test_nothing_that_a_sample_says_runs_or_is_asked_for(browser: Browser, tmp_path: Path) -> None:
    told = [Told((EVIL, "<b>"), detail=EVIL, entropies=(1.0, 1.0), gaps=(1.0, 1.0))]
    group = logged_group(0, EVIL, told, question=EVIL, images=("/etc/hostname", "../x.png"))
    run = write_run(tmp_path / "evil", [[group]], prompt={"suffix": EVIL})
    with opened(browser, run / "report.html", f"part=samples&name={EVIL}&shade={EVIL}") as page:
        page.page.locator(".card").click()
        dialog = page.page.locator("#sample")
        expect(dialog.locator(".reason")).to_have_text(EVIL)
        assert page.texts("#sample .token") == [EVIL, "<b>"]
        expect(dialog.locator(".pictures")).to_contain_text("/etc/hostname")
        assert not dialog.locator("img").count()
        page.page.keyboard.press("Escape")
        page.page.locator("#tab-recipe").click()
        expect(page.page.locator("#main")).to_contain_text(EVIL)
        assert page.page.evaluate("window.ran") is None
        assert all(path.is_relative_to(run) for path in page.read)


def test_a_page_without_its_run_says_what_is_missing(browser: Browser, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [[logged_group(0, "p", answers(0))]])
    alone = tmp_path / "report.html"
    alone.write_bytes((run / "report.html").read_bytes())
    page = browser.new_page()
    page.goto(alone.as_uri())
    expect(page.locator("#loading")).to_contain_text("It needs the folder report/ beside it")
    page.close()
