//! Runs the parts of the benchmark in order, and prints the figures.

use std::io::Write;

use anyhow::Result;
use serde_json::json;

use super::{ingest, many};
use crate::cells::CELLS;
use crate::options::StoreOptions;
use crate::report::{self, Figure};
use crate::rounds::{self, TableLine};
use crate::server::ServerKind;

/// Runs the benchmark that the options select. Fails if it could not be run or if bytes were wrong, not for a
/// missed goal.
pub(crate) fn run(options: &StoreOptions) -> Result<()> {
    let mut table: Box<dyn Write> =
        if options.json { Box::new(std::io::sink()) } else { Box::new(std::io::stdout().lock()) };
    let lines = if options.wants_cells() { lines(options, &mut table)? } else { Vec::new() };
    let figures = figures(options, &mut table)?;
    let short_lines = lines.iter().filter_map(TableLine::shortfall);
    let shortfalls: Vec<String> = short_lines.chain(figures.iter().filter_map(Figure::shortfall)).collect();
    report::print_shortfalls(&mut table, &shortfalls)?;
    drop(table);
    if options.json {
        let all = json!({
            "cells": lines.iter().map(report::line_json).collect::<Vec<_>>(),
            "figures": figures.iter().map(Figure::json).collect::<Vec<_>>(),
            "shortfalls": shortfalls,
        });
        serde_json::to_writer_pretty(std::io::stdout().lock(), &all)?;
    }
    Ok(())
}

fn lines(options: &StoreOptions, table: &mut impl Write) -> Result<Vec<TableLine>> {
    let (plan, programs) = (options.plan(), options.programs()?);
    programs.check(&plan.kinds)?;
    report::print_head(table)?;
    let mut lines = Vec::new();
    for cell in CELLS.into_iter().filter(|cell| options.wants(cell.name)) {
        for &clients in &options.clients {
            let line = rounds::measure(cell, clients, &plan, &programs)?;
            report::print_line(table, &line)?;
            lines.push(line);
        }
    }
    Ok(lines)
}

fn figures(options: &StoreOptions, table: &mut impl Write) -> Result<Vec<Figure>> {
    let programs = options.programs()?;
    let mut figures = Vec::new();
    if options.wants(many::NAME) {
        programs.check(&[ServerKind::Kached])?;
        figures.append(&mut many::measure(options.many_results(), &programs)?);
    }
    if options.wants(ingest::NAME) {
        figures.append(&mut ingest::measure(&programs.dir)?);
    }
    if !figures.is_empty() {
        writeln!(table)?;
    }
    figures.iter().try_for_each(|figure| report::print_figure(table, figure))?;
    Ok(figures)
}
