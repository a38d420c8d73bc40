// The pages of the studies of scales and of gradients: heads, arms side by side.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

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
  const bool align_corners = study.object("config").object("model").flag("align_corners");
  std::vector<HeadSites> heads;
  for (const Fields& record : study.objects("records")) {
    ArmSites& arm = named(named(heads, &HeadSites::head, record.words("head")).arms, &ArmSites::arm, record.words("arm"));
    std::vector<SiteHistory>& sites = record.words("source") == "first step" ? arm.start : arm.run;
    for (const Fields& fields : record.objects("sites")) {
      SiteRecord site = read_site(fields);
      auto found = std::find_if(sites.begin(), sites.end(), [&](const SiteHistory& h) { return h.records.front().site == site.site; });
      if (found == sites.end()) found = sites.insert(sites.end(), SiteHistory{.align_corners = align_corners});
      found->iterations.push_back(record.number("iteration"));
      found->records.push_back(std::move(site));
    }
  }
  return heads;
}

std::string anchor(size_t index) { return "head" + std::to_string(index + 1); }

// Rows: branches of the site; one mark for each arm.
Markup share_plot(const HeadSites& head, const std::string& site, bool first) {
  DotPlot plot{.title = site,
               .caption = "",
               .row_name = "branch",
               .rows = {},
               .value = {.name = "share of the fusion gradient", .unit = "%", .low = 0},
               .groups = {}};
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
        plot.caption = fmt::format("At iteration {:.0f}. Equal shares would be {:.0f} % each.",
                                   first ? history.iterations.front() : history.iterations.back(),
                                   100.0 / double(std::max<size_t>(1, record.branches.size())));
      }
      for (const BranchRecord& b : record.branches) group.values.push_back(100 * b.weight_grad_share);
      plot.groups.push_back(std::move(group));
    }
  }
  return dot_plot(plot);
}

bool has_shares(const SiteHistory& history) {
  const auto& branches = history.records.front().branches;
  return std::any_of(branches.begin(), branches.end(), [](const BranchRecord& b) { return std::isfinite(b.weight_grad_share); });
}

std::vector<Section> no_records(const char* command) {
  return {{"records", "Records", missing("the study has no records.", std::string("Run ") + command + ".")}};
}

}  // namespace

std::vector<Section> scale_sections(const Fields& study) {
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
        figures.push_back(scale_snapshot(record, site.align_corners, record.site, "Arm " + arm.arm + ", " + at + "."));
        details += scale_table(record, site.align_corners, site_title(record) + ", " + at, {});
      }
      for (const SiteHistory& site : arm.run) details += element("h3", text(site_title(site.records.front()))) + scale_figures(site, {});
      section.body += element("h3", text("Arm " + arm.arm)) + gallery(figures) +
                      element("details", element("summary", text("All numbers of arm " + arm.arm)) + details);
    }
    sections.push_back(std::move(section));
  }
  return sections;
}

std::vector<Section> gradient_sections(const Fields& study) {
  const std::vector<HeadSites> heads = read_heads(study);
  if (heads.empty()) return no_records("equiscale study gradients CONFIG");
  std::vector<Section> sections;
  for (size_t h = 0; h < heads.size(); ++h) {
    Section section{anchor(h), heads[h].head, {}};
    std::vector<Markup> start, end;
    for (const SiteHistory& site : heads[h].arms.front().first()) {
      if (has_shares(site)) start.push_back(share_plot(heads[h], site.records.front().site, true));
    }
    for (const SiteHistory& site : heads[h].arms.front().run) {
      if (has_shares(site) && site.records.size() > 1) end.push_back(share_plot(heads[h], site.records.front().site, false));
    }
    if (start.empty()) section.body += missing("no site of this head has a fusion weight with recorded gradients.", "");
    section.body += gallery(start);
    if (!end.empty()) section.body += element("h3", text("At the end")) + gallery(end);
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
