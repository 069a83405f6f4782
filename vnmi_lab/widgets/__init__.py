"""What a notebook shows. No rule of the machine is in here."""

from vnmi_lab.widgets.notebook import register
from vnmi_lab.widgets.predict import Predict
from vnmi_lab.widgets.timeline import Timeline, show

__all__ = ["Predict", "Timeline", "show"]

register()
