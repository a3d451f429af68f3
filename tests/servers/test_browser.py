from __future__ import annotations

from playwright.sync_api import Page


def test_a_page_runs_scripts_and_reaches_nothing_outside(page: Page) -> None:
    page.set_content("<p id=sum></p><script>document.getElementById('sum').textContent = 6 * 7</script>")
    assert page.inner_text("#sum") == "42"
    assert not page.evaluate("fetch('http://example.org').then(() => true, () => false)")
