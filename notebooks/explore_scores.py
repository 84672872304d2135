# %% [markdown]
# Explore the published scores: open in an editor that runs `# %%` cells, or run it as a script.
# It reads the published marts only, so it can never block a refresh.

# %%
import os
from pathlib import Path

import duckdb

home = Path(os.environ.get("SCORING_HOME", "workspace"))
con = duckdb.connect(str(home / "marts" / "current" / "scoring.duckdb"), read_only=True)
con.execute("set schema = 'marts'")

# %% Who is at the top, and why
print(con.sql("select rank, account_name, cell, total_points, top_reasons from scored_accounts order by rank limit 10"))

# %% Do more points mean more wins? The rate that the card expects beside the one that was seen
print(
    con.sql(
        "select points_from, deal_count, win_rate, win_rate_low, win_rate_high, expected_win_rate from win_rate_by_score order by 1"
    )
)

# %% Which criteria tell won from lost: the spread of the win rate over their bands, in bands with at least 20 deals
print(
    con.sql(
        """
        select criterion, max(win_rate) - min(win_rate) as spread, sum(deal_count) as deals
        from win_rate_by_criterion where deal_count >= 20 group by criterion order by spread desc
        """
    )
)

# %% Where our belief and the deals part: bands whose points moved most
print(
    con.sql(
        """
        select criterion, band, expert_points, points, won_count, deal_count, round(data_share_pct) as from_data_pct
        from scorecard order by abs(points - expert_points) desc limit 10
        """
    )
)

# %%
con.close()
