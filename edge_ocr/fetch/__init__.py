"""Downloads over http(s): of pictures, models and Paddle-Lite's libraries."""
