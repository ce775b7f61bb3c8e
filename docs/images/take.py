"""Take the screenshots in this folder from the demo's own project: `.venv/bin/python docs/images/take.py`.

Needs a finished `mlops demo` and Debian's chromium. Starts `dagster dev` on the demo's instance with its sensors off, so
that looking changes nothing.
"""

import sys
from contextlib import suppress
from pathlib import Path

import httpx
import playwright.sync_api
from playwright.sync_api import Page, sync_playwright

from zebra_assets import telemetry
from zebra_assets.control.processes import Service, free_port

HERE = Path(__file__).parent
DEMO = HERE.parents[1] / ".zebraops" / "demo"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync"]


def shoot(page: Page, url: str, name: str, ready: str) -> None:
    """Open a page, wait for a text on it, close Dagster's greeting and keep what is seen."""
    page.goto(url)
    page.wait_for_selector(f"text={ready}", timeout=60_000)
    with suppress(playwright.sync_api.TimeoutError):  # greeted before
        page.get_by_role("button", name="Skip").click(timeout=5_000)
    page.wait_for_timeout(5000)
    page.screenshot(path=str(HERE / name))


def main() -> int:
    """Take them all."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    argv = [sys.executable, "-m", "dagster_webserver", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)]
    env = {"ZEBRA_PROJECT_DIR": str(DEMO), "DAGSTER_HOME": str(DEMO / "dagster_home"), **telemetry.OFF}
    with Service("dagster-webserver", argv, env=env, log=DEMO / ".zebraops" / "logs" / "webserver.log", cwd=DEMO) as server:
        server.wait_until(lambda: httpx.get(f"{url}/server_info").status_code == 200, 60)
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
            page = browser.new_page(viewport={"width": 1600, "height": 1000})
            shoot(page, f"{url}/asset-groups", "asset-graph.png", "candidate")
            shoot(page, f"{url}/assets/tabular-churn/evaluation?view=overview", "materialisation.png", "scores")
            shoot(page, f"{url}/assets/tabular-churn/decision?view=overview", "decision.png", "reasons")
            browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
