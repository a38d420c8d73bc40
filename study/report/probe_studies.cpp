// The pages of the studies of scales and of gradients: heads, arms side by side.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/words.h"
#include "study/report/chart.h"
#include "study/report/sites.h"
#include "study/report/study_sections.h"
#include "study/report/ticks.h"

namespace eq::report {
namespace {

struct ArmSites {
  std::string arm;
  std::vector<SiteHistory> start;  // one record a site, the mean of several batches before training
  std::vector<SiteHistory> run;    // during training; may be empty
  double seeds = 1;                // that the start is the mean of
  const std::vector<SiteHistory>& first() const { return start.empty() ? run : start; }
};
struct HeadSites {
  std::string head;
  std::vector<ArmSites> arms;
};

// A new entry at the end for a name that is not there yet.
template <class Item>
Item& named(std::vector<Item>& items, std::string Item::*name, const std::string& wanted) {
  for (Item& item : items) {
    if (item.*name == wanted) return item;
  }
  items.emplace_back().*name = wanted;
  return items.back();
}

std::vector<HeadSites> read_heads(const Fields& study) {
  std::vector<HeadSites> heads;
  for (const Fields& record : study.objects("records")) {
    ArmSites& arm = named(named(heads, &HeadSites::head, record.words("head")).arms, &ArmSites::arm, record.words("arm"));
    std::vector<SiteHistory>& sites = record.words("source") == "first step" ? arm.start : arm.run;
    if (record.has("seeds")) arm.seeds = record.number("seeds");
    for (const Fields& fields : record.objects("sites")) {
      SiteRecord site = read_site(fields);
      auto found = std::find_if(sites.begin(), sites.end(), [&](const SiteHistory& h) { return h.records.front().site == site.site; });
      if (found == sites.end()) found = sites.insert(sites.end(), SiteHistory());
      found->iterations.push_back(record.number("iteration"));
      found->records.push_back(std::move(site));
    }
  }
  return heads;
}

std::string anchor(size_t index) { return "head" + std::to_string(index + 1); }

// The largest of a site's values over all arms, at the first record and at the last: what their plots have on one axis.
template <class Value>
double largest_of(const HeadSites& head, const std::string& site, Value value) {
  double largest = kNone;
  for (const ArmSites& arm : head.arms) {
    for (const auto* histories : {&arm.start, &arm.run}) {
      for (const SiteHistory& history : *histories) {
        if (history.records.front().site != site) continue;
        largest = std::fmax(largest, std::fmax(value(history.records.front()), value(history.records.back())));
      }
    }
  }
  return largest;
}

double largest_gradient(const SiteRecord& site) {
  double largest = kNone;
  for (const BranchRecord& b : site.branches) largest = std::fmax(largest, b.weight_grad_rms);
  return largest;
}

// A line for each arm over the iterations of its run, for each site of which a number is known.
template <class Value>
std::vector<Markup> arms_over_time(const HeadSites& head, const std::string& caption, const Axis& y, Value value) {
  std::vector<Markup> figures;
  for (const SiteHistory& of_first : head.arms.front().run) {
    const std::string& site = of_first.records.front().site;
    LineChart chart{.title = site, .caption = caption, .x = kIterations, .y = y, .series = {}};
    bool any = false;
    for (size_t a = 0; a < head.arms.size(); ++a) {
      for (const SiteHistory& history : head.arms[a].run) {
        if (history.records.front().site != site || history.records.size() < 2) continue;
        Series series{.name = head.arms[a].arm, .x = history.iterations, .color = int(a % 8)};
        for (const SiteRecord& record : history.records) {
          series.y.push_back(value(record));
          any = any || std::isfinite(series.y.back());
        }
        chart.series.push_back(std::move(series));
      }
    }
    if (any) figures.push_back(line_chart(chart));
  }
  return figures;
}

Markup over_time(const std::vector<Markup>& figures) {
  return figures.empty() ? Markup() : element("h3", text("On the way")) + gallery(figures);
}

// Largest over smallest standard deviation of what the layer behind the site gets.
double scale_ratio(const SiteRecord& site) {
  double largest = kNone, smallest = kNone;
  for (const BranchRecord& b : site.branches) largest = std::fmax(largest, b.fused.std), smallest = std::fmin(smallest, b.fused.std);
  return largest / smallest;
}

// The pages of the runs behind the records, beside the study's own.
Markup links_to_runs(const HeadSites& head, const std::filesystem::path& folder) {
  Markup links;
  for (const ArmSites& arm : head.arms) {
    const std::string page = head.head + "-" + arm.arm + "/report.html";
    if (!std::filesystem::exists(folder / page)) continue;
    links += text(links.empty() ? "" : " · ") + element("a", {{"href", page}}, text(arm.arm));
  }
  return links.empty() ? links : element("p", text("The runs: ") + links);
}

// Rows: branches of the site; one mark for each arm.
Markup gradient_plot(const HeadSites& head, const std::string& site, bool first) {
  DotPlot plot{.title = site,
               .caption = "",
               .row_name = "branch",
               .rows = {},
               .value = {.name = "gradient per weight", .unit = "RMS of the branch's slice", .low = 0},
               .groups = {}};
  if (const double high = largest_of(head, site, largest_gradient); std::isfinite(high)) plot.value.high = high;
  for (size_t a = 0; a < head.arms.size(); ++a) {
    for (const SiteHistory& history : first ? head.arms[a].first() : head.arms[a].run) {
      const SiteRecord& record = first ? history.records.front() : history.records.back();
      if (record.site != site) continue;
      DotPlot::Group group{head.arms[a].arm + ": largest / smallest " + short_number(record.grad_ratio),
                           {},
                           kArmMarks[a % std::size(kArmMarks)],
                           int(a % 8)};
      if (plot.rows.empty()) {
        for (const BranchRecord& b : record.branches) plot.rows.push_back(b.name);
        if (first && head.arms[a].seeds > 1) plot.caption = fmt::format("Mean of {:.0f} seeds. ", head.arms[a].seeds);
        plot.caption += fmt::format("At iteration {:.0f}.", first ? history.iterations.front() : history.iterations.back());
        if (record.depthwise) plot.caption += " A filter of this convolution reads one channel: behind batch norm its gradient does not know the scale.";
      }
      for (const BranchRecord& b : record.branches) group.values.push_back(b.weight_grad_rms);
      plot.groups.push_back(std::move(group));
    }
  }
  return dot_plot(plot);
}

bool has_gradients(const SiteHistory& history) {
  const auto& branches = history.records.front().branches;
  return std::any_of(branches.begin(), branches.end(), [](const BranchRecord& b) { return std::isfinite(b.weight_grad_rms); });
}

// Sites of the head's first records, a column for each arm: the ratios of all seeds.
Markup ratios_by_seed(const std::vector<Fields>& by_seed, const HeadSites& head) {
  std::vector<std::string> names{"Site"};
  for (const ArmSites& arm : head.arms) names.push_back(arm.arm);
  std::vector<std::vector<Cell>> rows;
  for (const SiteHistory& site : head.arms.front().start) {
    if (!has_gradients(site)) continue;
    std::vector<Cell> row{cell(site.records.front().site)};
    for (const ArmSites& arm : head.arms) {
      std::vector<std::string> ratios;
      for (const Fields& record : by_seed) {
        if (record.words("head") != head.head || record.words("arm") != arm.arm) continue;
        for (const Fields& of_seed : record.objects("sites")) {
          if (of_seed.words("site") == site.records.front().site) ratios.push_back(short_number(of_seed.number("grad_ratio")));
        }
      }
      row.push_back(cell(joined(ratios)));
    }
    rows.push_back(std::move(row));
  }
  return table("Largest over smallest gradient per weight, seed by seed", names, rows);
}

// One row for each site and arm: how many times the first arm's ratio.
Markup ratio_changes(const std::vector<Fields>& changes, const HeadSites& head) {
  std::vector<std::vector<Cell>> rows;
  for (const Fields& change : changes) {
    if (change.words("head") == head.head) rows.push_back(ratio_change_row(change));
  }
  return rows.empty() ? Markup() : table(kRatioChanges, {"Site", "Arms", "Mean", "Interval"}, rows);
}

std::vector<Section> no_records(const char* command) {
  return {{"records", "Records", missing("the study has no records.", std::string("Run ") + command + ".")}};
}

}  // namespace

std::vector<Section> scale_sections(const Fields& study, const std::filesystem::path& folder) {
  const std::vector<HeadSites> heads = read_heads(study);
  if (heads.empty()) return no_records("equiscale study scales CONFIG");
  std::vector<Section> sections;
  for (size_t h = 0; h < heads.size(); ++h) {
    Section section{anchor(h), heads[h].head, {}};
    for (const ArmSites& arm : heads[h].arms) {
      std::vector<Markup> figures;
      Markup details;
      for (const SiteHistory& site : arm.first()) {
        const SiteRecord& record = site.records.front();
        const std::string at = fmt::format("iteration {:.0f}", site.iterations.front());
        const double high = largest_of(heads[h], record.site, largest_scale);
        figures.push_back(scale_snapshot(record, high, record.site, "Arm " + arm.arm + ", " + at + "."));
        details += scale_table(record, site_title(record) + ", " + at, {});
      }
      for (const SiteHistory& site : arm.run) details += element("h3", text(site_title(site.records.front()))) + scale_figures(site, {});
      section.body += element("h3", text("Arm " + arm.arm)) + gallery(figures) +
                      element("details", element("summary", text("All numbers of arm " + arm.arm)) + details);
    }
    section.body += over_time(arms_over_time(heads[h], "Largest over smallest standard deviation of what is fused.",
                                             {.name = "largest / smallest", .low = 1}, scale_ratio)) +
                    links_to_runs(heads[h], folder);
    sections.push_back(std::move(section));
  }
  return sections;
}

std::vector<Section> gradient_sections(const Fields& study, const std::filesystem::path& folder) {
  const std::vector<HeadSites> heads = read_heads(study);
  if (heads.empty()) return no_records("equiscale study gradients CONFIG");
  const std::vector<Fields> by_seed = study.objects("by_seed");
  std::vector<Section> sections;
  for (size_t h = 0; h < heads.size(); ++h) {
    Section section{anchor(h), heads[h].head, {}};
    std::vector<Markup> start, end;
    for (const SiteHistory& site : heads[h].arms.front().first()) {
      if (has_gradients(site)) start.push_back(gradient_plot(heads[h], site.records.front().site, true));
    }
    for (const SiteHistory& site : heads[h].arms.front().run) {
      if (has_gradients(site) && site.records.size() > 1) end.push_back(gradient_plot(heads[h], site.records.front().site, false));
    }
    if (start.empty()) section.body += missing("no site of this head has a fusion weight with recorded gradients.", "");
    section.body += gallery(start);
    if (!start.empty() && !by_seed.empty()) {
      section.body += ratios_by_seed(by_seed, heads[h]) + ratio_changes(study.objects("ratio_changes"), heads[h]);
    }
    if (!end.empty()) section.body += element("h3", text("At the end")) + gallery(end);
    section.body += over_time(arms_over_time(heads[h], "Largest over smallest gradient per weight (RMS of a branch's slice).",
                                             {.name = "largest / smallest", .low = 1}, [](const SiteRecord& r) { return r.grad_ratio; })) +
                    links_to_runs(heads[h], folder);
    for (const ArmSites& arm : heads[h].arms) {
      Markup details;
      for (const SiteHistory& site : arm.start)
        details += gradient_table(site.records.front(), site.records.front().site + ", before training");
      for (const SiteHistory& site : arm.run) details += element("h3", text(site_title(site.records.front()))) + gradient_figures(site);
      section.body += element("details", element("summary", text("All numbers of arm " + arm.arm)) + details);
    }
    sections.push_back(std::move(section));
  }
  return sections;
}

}  // namespace eq::report
