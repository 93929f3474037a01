"""Uses Swagger UI in a headless Chromium, as a new user would: authorize, create, inspect.

Usage: browse.py ADDRESS CHROMIUM FOLDER, with a token in FIREFLOW_TOKEN; saves screenshots in FOLDER.
"""

import os
import shutil
import sys

from playwright.sync_api import sync_playwright

ADDRESS, CHROMIUM, FOLDER = sys.argv[1:]
# In containers this runs as root, for which Chromium's own sandbox does not start.
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def main(browser):
    page = browser.new_page(viewport={"width": 1300, "height": 1600})
    page.set_default_timeout(30_000)
    elsewhere, complaints, asked = [], [], []

    def watch(request):
        if not request.url.startswith((ADDRESS, "data:", "blob:")):
            elsewhere.append(request.url)
        if request.resource_type == "fetch" and "/docs/" not in request.url:
            asked.append(request.url)

    page.on("request", watch)
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))

    def picture(name, element=page):
        element.screenshot(path=f"{FOLDER}/{name}.png")

    def execute(tag, operation, expected, values=None):
        block = page.locator(f"#operations-{tag}-{operation}")
        block.locator(".opblock-summary").click()
        block.locator(".try-out__btn").click()
        for name, value in (values or {}).items():
            block.locator(f'tr[data-param-name="{name}"] input').fill(str(value))
        block.locator(".execute").click()
        answer = block.locator(".live-responses-table .response").first
        answer.wait_for()
        status = answer.locator(".response-col_status").inner_text().split()[0]
        picture(operation, block)
        assert status == expected, f"{operation}: {status} instead of {expected}"
        body = answer.locator(".response-col_description").inner_text()
        block.locator(".opblock-summary").click()
        return body

    page.goto(f"{ADDRESS}/docs/swagger-ui")
    page.locator(".opblock").first.wait_for()
    picture("start")
    assert "FireFlow" in page.locator(".title").inner_text()

    # Requests without a token are refused.
    execute("Firewalls", "getFirewalls", "401")
    complaints.clear()  # Chromium logs an error for every 4xx.
    page.locator("button.authorize").first.click()
    page.locator(".auth-container input").fill(os.environ["FIREFLOW_TOKEN"])
    page.locator(".auth-btn-wrapper button.authorize").click()
    page.locator(".btn-done").click()
    picture("authorized")

    # The examples work without a change.
    execute("Firewalls", "createFirewall", "201")
    firewall = {"firewall_id": 1}
    execute("FilteringPolicies", "createFilteringPolicy", "201", firewall)
    policy = {**firewall, "filtering_policy_id": 1}
    execute("FirewallRules", "createRule", "201", policy)
    body = execute("Inspections", "inspectPacket", "200", {**policy, "source_port": 40000, "destination_port": 443})
    assert '"permitted": true' in body and "web-in" in body, body
    execute("FirewallRules", "getRules", "200", policy)

    # The examples are harmless: prefilled parameters hide no rule, and no example deletes a rule.
    execute("FirewallRules", "batchRules", "200", policy)
    body = execute("FirewallRules", "replaceRules", "428", policy)
    assert "deletion_count_required" in body, body
    execute("FirewallRules", "moveRules", "422", policy)
    complaints.clear()
    body = execute("FirewallRules", "getAllRules", "200")
    assert "web-in" in body and "no-telnet" in body, body
    lists = [url for url in asked if url.rstrip("/").endswith(("/rules", "/firewalls"))]
    assert len(lists) >= 3 and not any("?" in url for url in asked if "inspections" not in url), asked

    assert not elsewhere, f"the page loads from elsewhere: {elsewhere}"
    assert not complaints, f"the browser complains: {complaints}"


with sync_playwright() as playwright:
    chromium = playwright.chromium.launch(executable_path=shutil.which(CHROMIUM), args=ARGUMENTS)
    try:
        main(chromium)
    finally:
        chromium.close()
