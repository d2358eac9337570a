//! The demonstration, from inside the guest: one attack chain against one web application, first without the enforcer,
//! then with it.
//!
//! [`stage`] puts the application, nginx and the attacker's servers up; [`attacks`] is the chain, with the proof that
//! each step worked or did not; this file tells the story and decides the exit status: zero only if every attack
//! worked without the enforcer, none worked with it, nothing reached the attacker, each refusal was reported, and the
//! services served their pages all the time.
#![allow(clippy::print_stdout, reason = "telling the story is what this program is for")]

mod attacks;
mod stage;
mod trust;

use std::process::ExitCode;

use attacks::{Attack, CHAIN};
use enforcer_vm_tests::events::Event;
use stage::{Protection, Stage};

/// How one attack went.
struct Row {
    attack: &'static Attack,
    bare: Result<String, String>,
    enforced: Result<String, String>,
    reached: u64,
    event: Option<Event>,
}

impl Row {
    /// It worked before, and then it did not, silently for the attacker and loudly for us.
    fn held(&self) -> bool {
        self.bare.is_ok() && self.enforced.is_err() && self.reached == 0 && self.event.is_some()
    }
}

fn main() -> ExitCode {
    let mut stage = Stage::set();
    headline("The application works, and so does every attack on it");
    let pages_before = stage.pages();
    say_pages(&pages_before);
    let bare: Vec<_> = CHAIN.iter().map(|attack| tell(attack, (attack.run)(&mut stage))).collect();

    headline("The same again, under the enforcer");
    stage.stop_services();
    stage.clean_up();
    let protection = Protection::start();
    stage.start_services();
    let pages_after = stage.pages();
    say_pages(&pages_after);
    let false_denials = protection.events();
    for event in &false_denials {
        println!("   FALSE DENIAL: {}", one_line(event));
    }
    let mut rows = Vec::new();
    for (attack, bare) in CHAIN.iter().zip(bare) {
        let reached = stage.reached();
        let mark = protection.mark();
        let enforced = tell(attack, (attack.run)(&mut stage));
        let event = protection.event_since(mark, attack);
        match &event {
            Some(event) => println!("      {}", one_line(event)),
            None => println!("      no event tells of it"),
        }
        rows.push(Row { attack, bare, enforced, reached: stage.reached() - reached, event });
    }
    let pages_at_the_end = stage.pages();
    say_pages(&pages_at_the_end);

    headline("What the machine refuses to be told");
    let refused = protection.trust().refuses();
    protection.trust().attest();

    headline("What held");
    table(&rows);
    let pages = [pages_before, pages_after, pages_at_the_end].concat();
    let served = pages.iter().all(|(_, served)| *served);
    let packets: u64 = rows.iter().map(|row| row.reached).sum();
    println!();
    println!("connections, packets and bytes that reached the attacker under the enforcer: {packets}");
    println!("pages served: {} of {}", pages.iter().filter(|(_, served)| *served).count(), pages.len());
    let held = rows.iter().all(Row::held) && served && false_denials.is_empty() && refused;
    println!(
        "\n{}",
        if held { "Every attack was stopped, and nothing else was." } else { "NOT everything held." }
    );
    if !held {
        println!("{}", protection.evidence());
    }
    drop(protection);
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn headline(text: &str) {
    println!("\n== {text}");
}

fn tell(attack: &Attack, outcome: Result<String, String>) -> Result<String, String> {
    match &outcome {
        Ok(proof) => println!("   {:28} WORKED   {proof}", attack.name),
        Err(how) => println!("   {:28} stopped  {how}", attack.name),
    }
    outcome
}

fn say_pages(pages: &[(String, bool)]) {
    for (page, served) in pages {
        println!("   {:28} {}", page, if *served { "served" } else { "NOT SERVED" });
    }
}

/// The event as an operator would read it.
fn one_line(event: &Event) -> String {
    let object = ["path", "name", "address"].map(|field| event.object(field));
    let object = object.into_iter().find(|text| !text.is_empty()).unwrap_or_default();
    let port = event.0.pointer("/object/port").map(|port| format!(" port {port}")).unwrap_or_default();
    format!(
        "{} {} {} {object}{port} by {} (pid {}) in {}: {}; to allow it: {}",
        event.text("verdict"),
        event.text("family"),
        event.text("operation"),
        event.text("exe"),
        event.number("pid").unwrap_or_default(),
        event.text("unit"),
        event.text("reason"),
        event.suggestion().split_whitespace().collect::<Vec<_>>().join(" "),
    )
}

fn table(rows: &[Row]) {
    println!(
        "   {:28} {:18} {:18} {:9} {:9} held",
        "attack", "without enforcer", "with enforcer", "reached", "reported"
    );
    for row in rows {
        let word = |outcome: &Result<String, String>| if outcome.is_ok() { "worked" } else { "stopped" };
        println!(
            "   {:28} {:18} {:18} {:<9} {:9} {}",
            row.attack.name,
            word(&row.bare),
            word(&row.enforced),
            row.reached,
            if row.event.is_some() { "yes" } else { "NO" },
            if row.held() { "yes" } else { "NO" }
        );
    }
}
