"""Lines of a report whose values do not differ."""

from strop.runs.report.charts import Series, line_chart


def test_a_line_of_one_value_is_drawn():
    loss = 3.7117655277252197  # as of a run whose first steps had no learning rate yet
    drawn = line_chart([Series("loss", [(1, loss), (2, loss)], "line")], "loss")
    assert "<svg" in drawn
    assert "nan" not in drawn
