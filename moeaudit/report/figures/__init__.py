"""The figures, each as SVG and as a plotly figure."""
