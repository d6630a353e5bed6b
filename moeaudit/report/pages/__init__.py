"""The parts of pages: sheets, tables, the token browser, the calibration pages."""
