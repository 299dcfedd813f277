"""From banks of judgements to scaling curves: estimators, intervals, figures. No torch."""
