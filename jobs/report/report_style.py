"""How the report looks: one style sheet, for light and for dark, for a screen and for paper."""

STYLE = """
:root{--paper:#f6f5f1;--card:#fff;--ink:#1d2129;--soft:#656b78;--line:#e4e2dc;--blue:#2f64d6;--wash:#2f64d61f;
--green:#1f8a63;--amber:#c9821a;--red:#cc3d3d;--grey:#c9c7c0;--pale:#e9e7e0}
@media (prefers-color-scheme:dark){:root{--paper:#14161b;--card:#1c1f26;--ink:#e8e9ec;--soft:#9aa1ae;--line:#2e323b;
--blue:#7ba4ff;--wash:#7ba4ff26;--green:#4cc497;--amber:#e6a94c;--red:#ff7b76;--grey:#4a4f5a;--pale:#2a2e37}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:1040px;margin:0 auto;padding:36px 20px 64px}
header{margin-bottom:22px}
.brand{margin:0;color:var(--blue);font-weight:650;letter-spacing:.02em}
h1{margin:2px 0 8px;font-size:30px;line-height:1.2;font-weight:680;letter-spacing:-.015em;overflow-wrap:anywhere}
h2{margin:0 0 2px;font-size:18px;font-weight:650;letter-spacing:-.005em;overflow-wrap:anywhere}
h3{margin:16px 0 2px;font-size:13px;font-weight:600;color:var(--soft)}
.sub,section>p{color:var(--soft);margin:0 0 14px;max-width:76ch;overflow-wrap:anywhere}
.sub{display:flex;gap:12px;align-items:center;flex-wrap:wrap}
.pill{padding:1px 10px;border-radius:99px;background:var(--wash);color:var(--blue);font-weight:600;font-size:13px}
.pill.done{color:var(--green);background:color-mix(in srgb,var(--green) 14%,transparent)}
.pill.failed,.pill.quarantine{color:var(--red);background:color-mix(in srgb,var(--red) 14%,transparent)}
.pill.stopped{color:var(--amber);background:color-mix(in srgb,var(--amber) 16%,transparent)}
.error{margin:0;padding:10px 14px;border-left:3px solid var(--red);background:var(--card);border-radius:4px;
overflow-wrap:anywhere}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:12px;margin:0 0 16px}
.cards div,section{background:var(--card);border:1px solid var(--line);border-radius:10px}
.cards div{padding:12px 16px}
.cards dt{color:var(--soft);font-size:13px}
.cards dd{margin:0;font-size:22px;font-weight:640;letter-spacing:-.01em;font-variant-numeric:tabular-nums}
section{padding:20px 24px 22px;margin-top:16px}
svg{display:block;width:100%;height:auto;overflow:visible}
svg text{font-size:12px;fill:var(--soft);font-variant-numeric:tabular-nums}
.grid{stroke:var(--line);stroke-width:1}
.axis,.tick{stroke:var(--grey);stroke-width:1;fill:none}
.line{fill:none;stroke:var(--blue);stroke-width:1.8;stroke-linejoin:round}
.area{fill:var(--wash)}
.hover{fill:transparent}.hover:hover{fill:var(--wash)}
.bar{fill:var(--blue);opacity:.82}.bar:hover{opacity:1}
.before{fill:none;stroke:var(--amber);stroke-width:1.8;stroke-linejoin:round}
.loading{fill:var(--pale)}
rect.done{fill:var(--green);opacity:.85}rect.again{fill:var(--amber)}rect.lost{fill:var(--red);opacity:.55}
rect.given-up{fill:var(--red)}rect.open{fill:var(--grey)}rect:hover{opacity:1}
.cross{stroke:var(--red);stroke-width:2.4;stroke-linecap:round}
.stack{display:flex;height:16px;gap:2px;border-radius:5px;overflow:hidden}
.stack i{min-width:3px}
i.scored,i.done{background:var(--green)}i.quarantined,i.given-up{background:var(--red)}
i.skipped,i.open{background:var(--grey)}i.again{background:var(--amber)}
i.lost{background:color-mix(in srgb,var(--red) 55%,transparent)}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:4px 20px;margin:10px 0 0;padding:0;color:var(--soft);
font-size:13px}
.legend i{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:7px;vertical-align:-1px}
.legend b{color:var(--ink);font-weight:600;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:14px;font-variant-numeric:tabular-nums}
svg+.scroll{margin-top:12px}
th,td{text-align:left;padding:6px 14px 6px 0;border-bottom:1px solid var(--line);vertical-align:top;
overflow-wrap:anywhere}
thead th{color:var(--soft);font-weight:500;font-size:13px}
thead:not(:has(th:not(:empty))){display:none}
tr:last-child td,tr:last-child th{border-bottom:0}
td:first-child{min-width:96px}
.stages th{font-weight:560;width:84px}
.stages .wide{width:38%;min-width:120px}
.stages td:last-child{color:var(--soft)}
.meter{display:block;height:12px;margin-top:5px;border-radius:3px;background:var(--blue);opacity:.82;min-width:2px}
@media print{body{background:#fff}section,.cards div{break-inside:avoid}}
@media (max-width:640px){main{padding:20px 12px 40px}section{padding:16px 14px}h1{font-size:24px}}
"""
