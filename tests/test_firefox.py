"""The pages in Firefox, by Mozilla's own driver: keyboard, mouse, every slider; narrow and wide, light and dark."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from made_site import write_results

from robustlib.course.site import build_site

pytestmark = pytest.mark.browser
BACKGROUND = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}
LOOKS = [(390, "dark"), (800, "light"), (1280, "dark"), (390, "light"), (1280, "light")]


class Firefox:
    """One window: a page is opened, keys are pressed, and JavaScript says what is there."""

    def __init__(self, marionette, site: Path) -> None:
        self.marionette, self.site = marionette, site

    def look(self, width: int, scheme: str) -> None:
        """Show pages `width` px wide, as a reader who prefers that scheme."""
        preference = "layout.css.prefers-color-scheme.content-override"
        self.marionette.set_pref(preference, ["dark", "light"].index(scheme))
        with self.marionette.using_context("chrome"):  # a window is never as narrow as a phone
            style = "const { style } = gBrowser.selectedBrowser; style.minWidth = style.maxWidth = arguments[0];"
            self.marionette.execute_script(style, [f"{width}px"])

    def open(self, name: str) -> None:
        self.marionette.navigate((self.site / name).as_uri())

    def run(self, script: str, *arguments: object) -> object:
        return self.marionette.execute_script(f"return {script}", arguments)

    def until(self, script: str, *arguments: object) -> None:
        deadline = time.monotonic() + 30
        while not self.run(script, *arguments):
            assert time.monotonic() < deadline, f"not within 30 s: {script}"
            time.sleep(0.05)

    def press(self, *names: str) -> None:
        from marionette_driver.keys import Keys

        self.marionette.actions.sequence("key", "keyboard").send_keys([getattr(Keys, one) for one in names]).perform()

    def tab_to(self, selector: str) -> None:
        for _ in range(80):
            self.press("TAB")
            if self.run("document.activeElement.matches(arguments[0])", selector):
                return
        raise AssertionError(f"no keyboard reaches {selector}")

    def element(self, selector: str):
        return self.marionette.find_element("css selector", selector)

    def errors(self) -> list[str]:
        """What went wrong in scripts of the site since the last call."""
        script = """
            const all = Services.console.getMessageArray().filter((one) => one instanceof Ci.nsIScriptError);
            Services.console.reset();
            return all.filter((one) => one.sourceName.startsWith(arguments[0])).map((one) => one.errorMessage);
        """
        with self.marionette.using_context("chrome"):
            return self.marionette.execute_script(script, [self.site.as_uri()])


@pytest.fixture(scope="module")
def firefox(tmp_path_factory):
    driver = pytest.importorskip("marionette_driver.marionette", reason="needs marionette-driver (pip install it)")
    installed = next(filter(None, map(shutil.which, ("firefox", "firefox-esr"))), None)
    if installed is None:
        pytest.skip("needs Firefox (Debian: apt-get install firefox-esr)")
    folder = tmp_path_factory.mktemp("firefox")
    site = build_site(write_results(folder / "smoke")).parent
    options = {"headless": True, "app_args": ["-remote-allow-system-access"], "gecko_log": str(folder / "gecko.log")}
    marionette = driver.Marionette(bin=installed, app="fxdesktop", port=0, **options)
    try:
        marionette.start_session()
        yield Firefox(marionette, site)
    finally:
        marionette.cleanup()


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_the_keyboard_alone_reaches_a_lesson_its_words_its_answer_and_its_slider(firefox, width, scheme):
    firefox.look(width, scheme)
    firefox.open("index.html")
    assert firefox.run("innerWidth") == width
    assert firefox.run("getComputedStyle(document.body).backgroundColor") == BACKGROUND[scheme]
    firefox.press("TAB", "ENTER")  # the skip link
    assert firefox.run("document.activeElement.id") == "content"
    firefox.open("index.html")
    firefox.tab_to("details.menu summary")
    firefox.press("ENTER")
    assert firefox.run("document.querySelector('details.menu').open")
    firefox.press("ESCAPE")
    assert not firefox.run("document.querySelector('details.menu').open")
    firefox.press("SPACE")
    firefox.tab_to('a[href="00_first.html"]')
    firefox.press("ENTER")
    firefox.until("location.href.endsWith('00_first.html') && document.readyState === 'complete'")
    firefox.tab_to(".term")
    assert "largest wrong logit" in firefox.run("document.activeElement.dataset.meaning")
    assert firefox.run("parseFloat(getComputedStyle(document.activeElement, '::after').height)") > 10
    firefox.tab_to(".reveal summary")
    assert not firefox.element(".reveal strong").is_displayed()
    firefox.press("ENTER")
    assert firefox.element(".reveal strong").is_displayed()
    assert firefox.run("document.documentElement.scrollWidth") <= width
    assert firefox.errors() == []


@pytest.mark.parametrize(("width", "scheme"), LOOKS[:3])
def test_every_slider_follows_the_keyboard_and_fits(firefox, width, scheme):
    firefox.look(width, scheme)
    pages = sorted(firefox.site.glob("*-0[0-9]*.html"))
    assert len(pages) > 5
    for path in pages:
        firefox.open(path.name)
        assert firefox.run("document.documentElement.scrollWidth") <= width, path.name
        for index in range(firefox.run("document.querySelectorAll('input[type=range]').length")):
            firefox.run("document.querySelectorAll('input[type=range]')[arguments[0]].focus()", index)
            firefox.press("HOME")
            state = "document.activeElement.ariaValueText + document.querySelector('.rl').innerHTML"
            before = firefox.run(state)
            firefox.press("ARROW_RIGHT")
            firefox.until(f"{state} !== arguments[0]", before)
    assert firefox.errors() == []


def test_a_mouse_opens_what_is_folded_and_sees_what_words_mean(firefox):
    firefox.look(800, "light")
    firefox.open("00_first.html")
    firefox.element(".reveal summary").click()
    assert firefox.run("document.querySelector('.reveal').open")
    word = firefox.element(".term")
    assert firefox.run("getComputedStyle(document.querySelector('.term'), '::after').content") == "none"
    firefox.marionette.actions.sequence("pointer", "mouse").pointer_move(0, 0, origin=word).perform()
    assert firefox.run("parseFloat(getComputedStyle(document.querySelector('.term'), '::after').height)") > 10
