//! `standing`: a look at how a pipeline stands in its database, whether or not anybody runs it.

use super::PostgresSettings;
use super::bond::Bond;
use super::settings::Settings;
use super::slot::Slot;
use super::slot_look::SlotLook;
use crate::error::Result;
use crate::source::{NotedSlot, SlotStanding, Standing};

/// Looks at the database of a pipeline's source. Changes nothing.
///
/// # Errors
/// `Config` if the source's settings are wrong, `Environment` or `Transient` if the server cannot
/// be asked.
pub(super) async fn standing(pipeline: &str, config: &PostgresSettings) -> Result<Standing> {
    let settings = Settings::new(pipeline, config)?;
    let client = super::setup::session(&settings).await?;
    let slot = match (Slot::find(&client, &settings.slot).await?, SlotLook::take(&client, &settings).await?) {
        (Some(slot), Some(look)) => {
            let reader =
                if look.is_active() { Some(super::slot::in_use(&client, &settings.slot).await.chain()) } else { None };
            Some(SlotStanding {
                active: look.is_active(),
                reader,
                lost: slot.loss(&settings.slot).map(|loss| loss.error().chain()),
                reading: look.reading(),
                confirmed: look.confirmed,
                server: look.end,
            })
        }
        _ => None,
    };
    let noted = Bond::find(&client, &settings.slot).await?;
    let noted = noted.map(|bond| NotedSlot { turn: bond.turn, left_at: bond.left(), clears_sinks: bond.clear_sinks });
    let copies = super::copy::progress(&client, &settings.slot, None).await?;
    Ok(Standing { slot_name: settings.slot, slot, noted, copies })
}
