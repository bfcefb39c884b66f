//! The smallest useful router: it says who may connect, lets members into a room, and answers one
//! rpc. What it does not name is refused: nobody publishes here.
//!
//! Run it with `cargo run --example minimal -- serve`, and call it without a Centrifugo by
//! `cargo run --example minimal -- fire rpc --method greet --data '{"name":"Ann"}' --user ann`.

use centripeta::{App, ConnectReply, Data, Json, Param, Reject, Router, SubscribeReply, User};
use serde::{Deserialize, Serialize};
use std::process::ExitCode;

fn main() -> ExitCode {
    App::new(router())
        .name("minimal")
        .about("The smallest useful router")
        .run()
}

fn router() -> Router {
    Router::new()
        .connect(connect)
        .subscribe("room:{number}", enter)
        .rpc("greet", greet)
}

/// What a client sends with its connect.
#[derive(Deserialize)]
struct Hello {
    name: String,
}

/// Takes the client's word for who it is; `examples/auth.rs` does not.
async fn connect(Data(hello): Data<Hello>) -> Result<ConnectReply, Reject> {
    if hello.name.is_empty() {
        return Err(Reject::error(1400, "a name, please"));
    }
    Ok(ConnectReply::user(hello.name))
}

/// Rooms have numbers; a room with another name is bad data, without a line here.
async fn enter(Param(number): Param<u32>, User(_): User) -> Result<SubscribeReply, Reject> {
    match number {
        0 => Err(Reject::permission_denied()),
        _ => Ok(SubscribeReply::allow()),
    }
}

/// What the rpc answers.
#[derive(Serialize)]
struct Greeting {
    text: String,
}

async fn greet(User(user): User, Data(hello): Data<Hello>) -> Json<Greeting> {
    let text = format!("hello {}, says {user}", hello.name);
    Json(Greeting { text })
}
