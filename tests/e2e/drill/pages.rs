//! The pages in a browser, at three widths, light and dark, and printed: `make test-pages`. It takes axe-core, which is not
//! part of the gate.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use world::fleet::{Fleet, check};
use world::place::Place;

use super::finish;

/// Runs axe in the page, looks whether it is wider than its window and whether any text is too small to read, and tells the
/// page around it.
const LOOK: &str = "<script>addEventListener('load', async () => {\
    const found = await axe.run();\
    const small = [...document.querySelectorAll('body *')].filter((one) => !['SCRIPT', 'STYLE', 'title'].includes(one.tagName)\
        && [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim())\
        && parseFloat(getComputedStyle(one).fontSize) < 11).map((one) => one.outerHTML.slice(0, 80));\
    parent.postMessage(JSON.stringify({ width: innerWidth, wide: document.documentElement.scrollWidth > innerWidth, small,\
        dark: matchMedia('(prefers-color-scheme: dark)').matches,\
        violations: found.violations.map((one) => one.id + ': ' + one.nodes.map((node) => node.target).join(' ')) }), '*');\
    });</script>";

fn chromium(place: &Place, args: &[&str]) -> String {
    let profile = format!("--user-data-dir={}", place.join("chromium").display());
    let mut command = Command::new("timeout");
    command.args([
        "90",
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        &profile,
    ]);
    let output = command.env("HOME", place.path()).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a page of this width looks like.
fn look(place: &Place, page: &Path, axe: &str, width: u32, dark: bool) -> Value {
    let text = fs::read_to_string(page).unwrap();
    let (head, tail) = text.rsplit_once("</body>").unwrap();
    let axe = axe.replace("</script", "<\\/script");
    fs::write(place.join("inner.html"), format!("{head}<script>{axe}</script>{LOOK}</body>{tail}")).unwrap();
    let outer = format!(
        "<!DOCTYPE html><html lang=\"en\"><title>t</title><body><iframe title=\"p\" src=\"inner.html\" width=\"{width}\" \
         height=\"3000\"></iframe><pre id=\"out\"></pre><script>addEventListener('message', (event) => {{ \
         document.getElementById('out').textContent = event.data; }})</script>"
    );
    fs::write(place.join("outer.html"), outer).unwrap();
    let url = format!("file://{}", place.join("outer.html").display());
    let scheme = format!("--blink-settings=preferredColorScheme={}", u8::from(!dark));
    let dom = chromium(
        place,
        &[&scheme, "--virtual-time-budget=20000", "--window-size=1400,3200", "--dump-dom", &url],
    );
    let told = dom.split_once("<pre id=\"out\">").unwrap().1.split_once("</pre>").unwrap().0;
    serde_json::from_str(&told.replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&")).unwrap()
}

/// At three widths, light and dark.
fn is_readable(place: &Place, page: &Path, axe: &str) {
    for width in [390, 768, 1280] {
        for dark in [false, true] {
            let found = look(place, page, axe, width, dark);
            assert_eq!((&found["width"], &found["dark"]), (&width.into(), &dark.into()));
            assert_eq!(found["violations"], serde_json::json!([]), "{width} {dark}");
            assert_eq!(
                (&found["wide"], &found["small"]),
                (&false.into(), &serde_json::json!([])),
                "{width} {dark}: {found}"
            );
        }
    }
}

#[test]
#[ignore = "make test-pages: it takes Chromium and axe-core"]
fn pages_are_readable_at_every_width_light_dark_and_printed() {
    let axe = fs::read_to_string(std::env::var("AXE_JS").expect("AXE_JS names axe.min.js")).unwrap();
    let fleet = Fleet::start(check(Duration::from_secs(1)), 2, false).unwrap();
    let page = fleet.place.join("report.html");
    let args = format!(
        "--mode stop --secs 4 --rps 40 --interval 1s --timeout 500ms --healthy 2 --report {}",
        page.display()
    );
    let (_, _, stderr) = finish(fleet.failover(&args));
    assert!(page.is_file(), "{stderr}");
    is_readable(&fleet.place, &page, &axe);
    let (grown, nodes) = (fleet.place.join("scale.html"), fleet.nodes());
    let args = "drill scale --json --url http://alb.test/ --baseline 1s --target 5 --secs 20 --alarm 50 --watch 1s --resolve";
    let mut args: Vec<&str> = args.split_ascii_whitespace().collect();
    let path = grown.to_string_lossy().into_owned();
    args.extend([nodes.as_str(), "--report", &path]);
    let (_, _, stderr) = finish(world::agent::command(&fleet.place, &args));
    assert!(grown.is_file(), "{stderr}");
    is_readable(&fleet.place, &grown, &axe);
    // Without scripts everything but the button is there.
    let text = fs::read_to_string(&page).unwrap();
    let plain = &text[..text.find("<script").unwrap()];
    assert!(
        plain.contains("data-key=\"outage_ms\"")
            && plain.contains("<svg")
            && plain.contains("data-key=\"safety\"")
    );
    let pdf = fleet.place.join("page.pdf");
    let url = format!("file://{}", page.display());
    chromium(&fleet.place, &[&format!("--print-to-pdf={}", pdf.display()), &url]);
    assert!(fs::read(&pdf).unwrap().starts_with(b"%PDF"));
}
