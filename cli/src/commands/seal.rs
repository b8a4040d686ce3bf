//! `seal` and `plan seal`.

use serde_json::json;
use ssmbake_installers::seal::{self, Registered, SealPlan};
use ssmbake_manifests::SealProfile;

use super::Session;
use crate::args::{SealArgs, SealProfileArg};
use crate::exit::{self, Failure};
use crate::render;

impl Session<'_> {
    pub(super) fn plan_seal(&self, profile: SealProfileArg) -> Result<u8, Failure> {
        let root = self.open()?;
        let facts = self.facts(&root)?;
        self.refuse_windows(&facts)?;
        let plan = seal::plan(&root, &facts, self.catalog, profile_of(profile))?;
        self.note_seal(&plan);
        self.finish(&render::seal(&plan), &plan)?;
        Ok(exit::OK)
    }

    pub(super) fn seal(&self, args: &SealArgs) -> Result<u8, Failure> {
        self.expect_places([])?;
        let root = self.open_to_change()?;
        let facts = self.facts(&root)?;
        self.refuse_windows(&facts)?;
        let plan = seal::plan(&root, &facts, self.catalog, profile_of(args.profile))?;
        self.note_seal(&plan);
        for item in &plan.items {
            self.console.event("seal", &render::item(item), json!(item));
        }
        let registered = if args.registered {
            Registered::Seal
        } else {
            Registered::Refuse
        };
        let changed = seal::seal(
            &root,
            &facts,
            self.catalog,
            &plan,
            registered,
            self.epoch()?,
            &|_| self.interrupt.check(),
        )?;
        let text = match changed.len() {
            0 => "nothing to seal\n".to_owned(),
            count => format!("sealed {count} paths in {}\n", root.host_path().display()),
        };
        self.finish(&text, &json!({ "schema": 1, "plan": plan, "changed": changed }))
            .map_err(Failure::unreported)?;
        let is_told = !changed.is_empty() && args.detailed_exitcode;
        Ok(if is_told { exit::CHANGED } else { exit::OK })
    }

    fn note_seal(&self, plan: &SealPlan) {
        plan.notes.iter().for_each(|note| self.console.warn(note));
    }
}

fn profile_of(profile: SealProfileArg) -> SealProfile {
    match profile {
        SealProfileArg::Agent => SealProfile::Agent,
        SealProfileArg::Image => SealProfile::Image,
    }
}
