"""The style sheet of the page: no script, no font, no image from elsewhere."""

from __future__ import annotations

from isthmus.report.theme import css_variables

_RULES = """
*{box-sizing:border-box} html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe
UI",Roboto, "Noto Sans","Liberation Sans",sans-serif;font-variant-numeric:tabular-nums}
main,.page-head,footer{max-width:976px;margin:0 auto;padding:0 28px} .page-head{padding-top:36px}
h1{font-size:1.75rem;line-height:1.2;margin:0 0 4px;letter-spacing:-.01em;overflow-wrap:anywhere}
h2{font-size:1.22rem;line-height:1.3;margin:48px 0 8px} h3{font-size:1rem;margin:24px 0 6px} p{margin:0 0
10px;max-width:74ch} .lead{color:var(--soft);margin-bottom:20px} code{font:.92em/1.4 ui-monospace,"Cascadia
Mono","DejaVu Sans Mono",Menlo,monospace;overflow-wrap:anywhere} .verdict{border-left:4px solid
var(--mark);background:var(--panel);padding:14px 18px;margin:18px 0; border-radius:0 8px 8px 0} .verdict
p{margin:0;max-width:none} .verdict strong{color:var(--mark)} .good{--mark:var(--local)}
.attention{--mark:var(--late)} .equation{font-weight:600}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(196px,1fr));gap:1px;background:var(--rule);
border:1px solid var(--rule);border-radius:10px;overflow:hidden;margin:20px 0}
.card{background:var(--panel);padding:14px 16px} .card dt{color:var(--soft);font-size:.84rem} .card
dd{margin:0} .card .value{font-size:1.5rem;line-height:1.3;font-weight:600;letter-spacing:-.01em} .card
.note{color:var(--soft);font-size:.82rem;line-height:1.4}
.bar{display:flex;height:26px;border-radius:5px;overflow:hidden;margin:10px 0 6px;background:var(--rule)} .bar
span{min-width:2px;border-right:1px solid var(--panel)} .bar span:last-child{border-right:0}
figure{margin:12px 0 0;background:var(--panel);border:1px solid var(--rule);border-radius:10px;padding:14px
14px 10px} figure svg:not(.swatch){display:block;width:100%;height:auto;overflow:visible} figure svg
*{stroke-linejoin:round;stroke-linecap:butt} figure svg text{font-family:inherit}
figcaption{color:var(--soft);font-size:.88rem;margin-top:8px;max-width:84ch} .narrow{display:none!important}
.legend{display:flex;flex-wrap:wrap;gap:3px 18px;list-style:none;margin:0 0 10px;padding:0;font-size:.86rem}
.legend li{display:flex;align-items:center;gap:7px} .legend+.legend{margin-top:-4px}
.swatch{width:16px;height:16px;flex:none;overflow:visible} .scroll{overflow-x:auto;border:1px solid
var(--rule);border-radius:10px;background:var(--panel);margin:12px 0}
.scroll:focus-visible,summary:focus-visible,a:focus-visible{outline:2px solid
var(--remote);outline-offset:2px} table{border-collapse:collapse;width:100%;font-size:.88rem}
caption{text-align:left;padding:12px 14px 8px;color:var(--soft);position:sticky;left:0;max-width:calc(100vw -
34px)} th,td{padding:7px 14px;text-align:right;border-top:1px solid var(--grid);white-space:nowrap} thead
th{color:var(--soft);font-weight:600;vertical-align:bottom;white-space:normal;line-height:1.3}
th:first-child,td:first-child,th.text,td.text{text-align:left} tbody th{font-weight:500}
.text{white-space:normal;min-width:12em} .muted{color:var(--soft)}
.facts{display:grid;grid-template-columns:max-content 1fr;gap:4px 20px;margin:12px 0;font-size:.92rem} .facts
dt{color:var(--soft)} .facts dd{margin:0;overflow-wrap:anywhere} .notes{margin:8px 0;padding-left:1.2em}
.notes li{margin:4px 0} nav ul{display:flex;flex-wrap:wrap;gap:4px 16px;list-style:none;margin:12px
0;padding:0} a{color:var(--remote)} details{margin:12px 0} summary{cursor:pointer;color:var(--soft)}
article+article{border-top:3px solid var(--rule);margin-top:64px;padding-top:28px}
footer{color:var(--soft);font-size:.84rem;margin-top:56px;padding-bottom:48px} @media (max-width:640px){
main,.page-head,footer{padding-left:16px;padding-right:16px} .page-head{padding-top:24px}
h1{font-size:1.45rem} h2{margin-top:36px} figure{padding:12px 0
10px;margin-left:-16px;margin-right:-16px;border-left:0;border-right:0;border-radius:0} figure
.legend,figcaption{padding:0 16px} .wide{display:none!important} .narrow{display:block!important}
.cards{grid-template-columns:repeat(2,1fr)} .card{padding:11px 12px} .card .value{font-size:1.25rem}
.facts{grid-template-columns:1fr;gap:0} .facts dd{margin-bottom:8px} } @media
print{.scroll{overflow:visible}figure,.cards,tr{break-inside:avoid}}
"""


def style_sheet() -> str:
    """Return the CSS of the page: both themes, wide and narrow."""
    return (
        f":root{{color-scheme:light dark;{css_variables(dark=False)}}}"
        f"@media (prefers-color-scheme:dark){{:root{{{css_variables(dark=True)}}}}}"
        + _RULES.replace("\n", "")
    )
