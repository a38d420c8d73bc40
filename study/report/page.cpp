// The page around a report: its style, its policy, the table of contents.
#include "study/report/html.h"

namespace eq::report {
namespace {

// Series colours differ in lightness as well as in hue, so that they stay apart for colour-blind readers and in grey print; marks and
// dashes tell them apart a second time. Each has a contrast of at least 3 to its background.
constexpr const char* kStyle = R"css(
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #1b1f24; --soft: #57606a; --line: #d3d9e0; --panel: #f5f7f9; --link: #0b5cad; --heat: #0a4a8f;
  --good: #0f6b46; --bad: #a8321c; --open: #7a5600;
  --s0: #0072b2; --s1: #c8500a; --s2: #00805f; --s3: #a03f8e; --s4: #3a3f46; --s5: #8a6100; --s6: #5a7fd0; --s7: #9c2f3f;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #12161b; --ink: #e4eaf0; --soft: #9aa6b2; --line: #39424c; --panel: #1a2027; --link: #79b8ff; --heat: #8fc4ff;
    --good: #5fd3a2; --bad: #ff9c85; --open: #e8c063;
    --s0: #58b2f2; --s1: #ff9350; --s2: #33c796; --s3: #e48ad3; --s4: #c3ccd5; --s5: #e0b04a; --s6: #93a9f5; --s7: #f08593;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body { margin: 0 auto; max-width: 1240px; padding: 1.25rem clamp(0.8rem, 3vw, 2rem) 3rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 0.4rem; padding-top: 0.6rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.02rem; margin: 1.6rem 0 0.3rem; }
p { margin: 0.4rem 0; max-width: 75ch; }
a { color: var(--link); }
.subtitle { color: var(--soft); margin-bottom: 1rem; }
nav { font-size: 0.9rem; margin-top: 1rem; }
nav a { display: inline-block; margin: 0 0.9rem 0.2rem 0; padding: 0.15rem 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.4rem, 1fr)); gap: 0.5rem; margin: 0; }
.tiles div { background: var(--panel); border: 1px solid var(--line); border-radius: 6px; padding: 0.45rem 0.7rem; }
.tiles dt { font-size: 0.8rem; color: var(--soft); }
.tiles dd { margin: 0; font-size: 1.2rem; font-weight: 600; line-height: 1.3; font-variant-numeric: tabular-nums; }
.tiles dd small { display: block; font-size: 0.78rem; font-weight: 400; color: var(--soft); }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); gap: 0 1.4rem; margin: 0.8rem 0 0; }
figure { margin: 0; min-width: 0; }
/* Captions, legends and drawings of a row of figures start at the same heights. */
.gallery figure { display: grid; grid-template-rows: subgrid; grid-row: span 3; margin-bottom: 1.2rem; align-items: start; align-content: start; }
.gallery .legend { grid-row: 2; }
.gallery figure > svg { grid-row: 3; }
figure.wide { max-width: 760px; margin: 0.8rem 0; overflow-x: auto; }
figcaption { font-size: 0.86rem; line-height: 1.4; color: var(--soft); margin-bottom: 0.25rem; }
figcaption strong { display: block; font-size: 0.95rem; color: var(--ink); }
figure > svg { display: block; width: 100%; height: auto; max-width: 480px; overflow: visible; }
figure.wide > svg { max-width: 760px; min-width: 560px; }
svg text { font: 11px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; fill: var(--ink); font-variant-numeric: tabular-nums; }
svg .tick { fill: var(--soft); }
svg .axis-name { fill: var(--soft); }
svg .small { font-size: 9px; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .base { stroke: var(--soft); stroke-width: 1; fill: none; }
svg .line { fill: none; stroke-width: 1.7; stroke-linejoin: round; stroke-linecap: round; }
svg .dashed { stroke-dasharray: 5 4; stroke-width: 1.3; }
svg .pale { stroke-opacity: 0.45; stroke-width: 1; }
svg .thick { stroke-width: 4; stroke-linecap: butt; stroke-opacity: 0.55; }
svg .mark { stroke: none; }
svg .hollow { fill: var(--paper); stroke-width: 1.6; }
svg .heat { fill: var(--heat); }
svg .on-heat { fill: var(--paper); }
svg .stroke0 { stroke: var(--s0); } svg .fill0 { fill: var(--s0); }
svg .stroke1 { stroke: var(--s1); } svg .fill1 { fill: var(--s1); }
svg .stroke2 { stroke: var(--s2); } svg .fill2 { fill: var(--s2); }
svg .stroke3 { stroke: var(--s3); } svg .fill3 { fill: var(--s3); }
svg .stroke4 { stroke: var(--s4); } svg .fill4 { fill: var(--s4); }
svg .stroke5 { stroke: var(--s5); } svg .fill5 { fill: var(--s5); }
svg .stroke6 { stroke: var(--s6); } svg .fill6 { fill: var(--s6); }
svg .stroke7 { stroke: var(--s7); } svg .fill7 { fill: var(--s7); }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 0.1rem 0.9rem; margin: 0.2rem 0; padding: 0; font-size: 0.84rem; }
.legend svg { width: 26px; height: 12px; vertical-align: -1px; margin-right: 0.3rem; }
.legend i { display: inline-block; width: 0.95em; height: 0.95em; border: 1px solid var(--line); border-radius: 2px; vertical-align: -0.1em; margin-right: 0.3rem;
  print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.beside { display: flex; flex-wrap: wrap; gap: 0 2.5rem; margin-top: 0.8rem; }
.beside > figure { flex: 1 1 330px; max-width: 760px; }
.beside > figure.wide { flex-basis: min(100%, 560px); }
.beside > div { flex: 0 1 auto; min-width: 0; max-width: 100%; }
.scroll { overflow-x: auto; margin: 0.2rem 0 0.9rem; }
table { border-collapse: collapse; font-size: 0.86rem; font-variant-numeric: tabular-nums; }
.caption { font-size: 0.86rem; color: var(--soft); margin: 0.9rem 0 0; }
th, td { text-align: left; padding: 0.22rem 0.8rem 0.22rem 0; white-space: nowrap; border-bottom: 1px solid var(--line); vertical-align: top; font-weight: 400; overflow-wrap: normal; }
thead th { color: var(--soft); vertical-align: bottom; white-space: normal; }
.number { text-align: right; }
.words { white-space: normal; min-width: 16rem; }
.missing { background: var(--panel); border-left: 3px solid var(--line); padding: 0.5rem 0.8rem; }
.verdict { font-weight: 600; white-space: nowrap; }
.good { color: var(--good); } .bad { color: var(--bad); } .open { color: var(--open); } .quiet { color: var(--soft); }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(46%, 180px), 1fr)); gap: 4px; }
.panels span { display: block; font-size: 0.78rem; color: var(--soft); }
.panels img { display: block; width: 100%; height: auto; }
.panels img.small { image-rendering: pixelated; }
.claims td, .claims th { white-space: normal; padding: 0.6rem 1.2rem 0.6rem 0; }
.claims th:first-child { width: 10rem; }
.claims td { min-width: 12rem; }
.shown { margin: 0.9rem 0; }
details { margin: 0.6rem 0; }
summary { cursor: pointer; padding: 0.3rem 0; }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: 6px; padding: 0.7rem; overflow-x: auto; font-size: 0.8rem; line-height: 1.4; }
code { font-size: 0.9em; }
code span { white-space: nowrap; }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
@media (max-width: 600px) {
  svg .fine { display: none; }
  h1 { font-size: 1.35rem; }
  thead th.number { min-width: 6rem; }
  td.words { min-width: 10rem; overflow-wrap: anywhere; }
  code span { white-space: normal; }
  .claims thead { display: none; }
  .claims tr { display: block; border-bottom: 1px solid var(--line); padding: 0.6rem 0; }
  .claims th, .claims td { display: block; border: 0; padding: 0.1rem 0; min-width: 0; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 11pt; }
  nav { display: none; }
  figure, tr, .tiles, .shown { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  .gallery { grid-template-columns: repeat(2, 1fr); }
  .scroll { overflow: visible; }
}
)css";

}  // namespace

std::string page(const std::string& title, const Markup& subtitle, const Markup& headline, const std::vector<Section>& sections) {
  Markup contents, main;
  for (const Section& section : sections) {
    contents += element("a", {{"href", "#" + section.id}}, text(section.title));
    main += Markup::literal("\n") +
            element("section", {{"id", section.id}}, element("h2", text(section.title)) + Markup::literal("\n") + section.body);
  }
  const Markup header = element("h1", text(title)) + element("p", {{"class", "subtitle"}}, subtitle) + headline +
                        element("nav", {{"aria-label", "Contents"}}, contents);
  const Markup head = element("meta", {{"charset", "utf-8"}}) +
                      element("meta", {{"name", "viewport"}, {"content", "width=device-width, initial-scale=1"}}) +
                      element("meta", {{"http-equiv", "Content-Security-Policy"},
                                       {"content", "default-src 'none'; style-src 'unsafe-inline'; img-src data:"}}) +
                      element("title", text(title)) + element("style", Markup::literal(kStyle));
  return "<!DOCTYPE html>\n" +
         element("html", {{"lang", "en"}},
                 element("head", head) + Markup::literal("\n") + element("body", element("header", header) + element("main", main)))
             .html() +
         "\n";
}

}  // namespace eq::report
