//! The name of one crash image: which script or letters, which moment, which image, and so on
//! into the recovery from it.
//!
//! ```text
//! crash/<script>/<seed>/<moment>/<image>[/<call of opening>/<image>]...
//! letters/<letters>/<moment>/<image>
//! image = <family>.<n>, or kill: the process alone died
//! ```
//!
//! While a [`Guard`] lives, a panic prints the name as the command's `TORTURE_CASE=...`.

use alluvium::fs::sim::{Family, ImageId, SimFs};
use std::fmt;
use std::str::FromStr;

/// Which disk of a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Pick {
    /// The process died and the machine goes on: nothing written is lost.
    Kill,
    /// The power went.
    Image(Family, usize),
}

impl Pick {
    /// The machine that starts on this disk; `None` when the moment has no such image.
    pub(crate) fn of(self, moment: &SimFs) -> Option<SimFs> {
        match self {
            Pick::Kill => Some(moment.kill()),
            Pick::Image(family, n) => moment.image(ImageId {
                call: moment.call_count(),
                family,
                n,
            }),
        }
    }
}

impl fmt::Display for Pick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pick::Kill => f.write_str("kill"),
            Pick::Image(family, n) => write!(f, "{family:?}.{n}"),
        }
    }
}

impl FromStr for Pick {
    type Err = String;

    fn from_str(text: &str) -> Result<Pick, String> {
        if text == "kill" {
            return Ok(Pick::Kill);
        }
        let (name, n) = text.split_once('.').ok_or(format!("{text}: no image"))?;
        let family = Family::ALL
            .into_iter()
            .find(|family| format!("{family:?}") == name)
            .ok_or(format!("{name}: no family of images"))?;
        let n = n.parse().map_err(|e| format!("{text}: {e}"))?;
        Ok(Pick::Image(family, n))
    }
}

/// What is driven up to the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A script of the enumeration, with the seed of its contents.
    Script(String, u64),
    /// A sequence of letters.
    Letters(String),
}

/// One crash image, or one inside the recovery from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    /// What runs.
    pub(crate) source: Source,
    /// The index of the mutating call before which it ends.
    pub(crate) moment: u64,
    /// The disk that is left.
    pub(crate) pick: Pick,
    /// Then, while that is opened: the call, and the disk that is left.
    pub(crate) inside: Vec<(u64, Pick)>,
}

impl Case {
    /// The same, and then once more inside the recovery.
    pub(crate) fn then(&self, call: u64, pick: Pick) -> Case {
        let mut case = self.clone();
        case.inside.push((call, pick));
        case
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Script(name, seed) => write!(f, "crash/{name}/{seed}")?,
            Source::Letters(letters) => write!(f, "letters/{letters}")?,
        }
        write!(f, "/{}/{}", self.moment, self.pick)?;
        self.inside
            .iter()
            .try_for_each(|(call, pick)| write!(f, "/{call}/{pick}"))
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Case, String> {
        let mut parts = text.split('/');
        let mut next = || parts.next().ok_or(format!("{text}: too short"));
        let number = |part: &str| part.parse::<u64>().map_err(|e| format!("{part}: {e}"));
        let source = match next()? {
            "crash" => Source::Script(next()?.to_owned(), number(next()?)?),
            "letters" => Source::Letters(next()?.to_owned()),
            other => return Err(format!("{other}: say crash or letters")),
        };
        let (moment, pick) = (number(next()?)?, next()?.parse()?);
        let mut inside = Vec::new();
        while let Some(call) = parts.next() {
            let pick = parts.next().ok_or(format!("{text}: too short"))?;
            inside.push((number(call)?, pick.parse()?));
        }
        Ok(Case {
            source,
            moment,
            pick,
            inside,
        })
    }
}

/// Prints the case when a panic passes through.
pub(crate) struct Guard<'a>(pub(crate) &'a Case);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("to run this case alone: TORTURE_CASE={}", self.0);
        }
    }
}

/// The case that the environment asks for, if it is one of these suites'.
pub(crate) fn asked_for() -> Option<Case> {
    let text = crate::scale::only()?;
    let mine = text.starts_with("crash/") || text.starts_with("letters/");
    mine.then(|| text.parse().unwrap_or_else(|e| panic!("TORTURE_CASE: {e}")))
}

#[test]
fn a_case_is_read_back_from_what_is_printed() {
    let picks = Family::ALL
        .into_iter()
        .map(|family| Pick::Image(family, family as usize * 7))
        .chain([Pick::Kill]);
    for pick in picks {
        let source = Source::Script("puts-and-deletes".to_owned(), 12);
        let letters = Source::Letters("aBr".to_owned());
        let inside = vec![(3, pick), (0, Pick::Kill)];
        for (source, inside) in [(source, inside), (letters, Vec::new())] {
            let case = Case {
                source,
                moment: 417,
                pick,
                inside,
            };
            assert_eq!(case.to_string().parse(), Ok(case));
        }
    }
    for nonsense in [
        "",
        "crash",
        "crash/x/1/2",
        "crash/x/1/2/Torn",
        "letters/a/1/Tron.3",
    ] {
        assert!(nonsense.parse::<Case>().is_err(), "{nonsense}");
    }
}
