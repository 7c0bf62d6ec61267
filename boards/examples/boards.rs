// SPDX-License-Identifier: Apache-2.0
//! Prints the boards that trays are built on: name, architecture, description.

fn main() {
    for board in racklet_boards::all() {
        println!(
            "{} {} {}",
            board.name, board.architecture, board.description
        );
    }
}
